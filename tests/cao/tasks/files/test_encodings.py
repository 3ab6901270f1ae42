"""Files that are no text in UTF-8: each is named for what it is, with the command that makes such a text of it."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from cao.errors import InputError
from cao.tasks import get_task
from cao.tasks.prompt_file import read_prompts, read_windows

TEXT = "question,answer\nWhere is the café?,left\n"


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("q.csv", TEXT)
    return held.getvalue()


def feathered() -> bytes:
    held = io.BytesIO()
    feather.write_feather(pa.table({"question": ["Why?"]}), held)
    return held.getvalue()


READERS: list[Callable[[Path], object]] = [lambda path: get_task(str(path)), read_prompts, read_windows]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("q.csv.gz", gzip.compress(TEXT.encode(), mtime=0), ": compressed by gzip; unpack it: gunzip {}"),
        ("q.csv", gzip.compress(TEXT.encode(), mtime=0), ": compressed by gzip; unpack it: gunzip {}"),
        ("q.zip", zipped(), ": a zip archive; unpack it: unzip {}"),
        ("q.feather", feathered(), ": an Arrow (Feather) file; save the table as Parquet"),
        ("q.csv", TEXT.encode("utf-16"), ": UTF-16; make it UTF-8: iconv -f UTF-16 -t UTF-8 {} > NEW"),
        ("q.txt", TEXT.encode("utf-16-le"), ": UTF-16LE; make it UTF-8: iconv -f UTF-16LE -t UTF-8 {} > NEW"),
        ("q.jsonl", TEXT.encode("utf-16-be"), ": UTF-16BE; make it UTF-8: iconv -f UTF-16BE -t UTF-8 {} > NEW"),
        (
            "q.csv",
            TEXT.encode("latin1"),
            ":2: not UTF-8 (byte 17 of the line); if it is Latin-1: iconv -f LATIN1 -t UTF-8 {} > NEW",
        ),
        ("q.txt", b"\x00\x01\xff\n", ":1: not UTF-8 (byte 3 of the line), nor any other text"),
    ],
    ids=["gzip", "gzip named csv", "zip", "feather", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "no text"],
)
def test_what_is_no_utf8_is_named(
    tmp_path: Path, read: Callable[[Path], object], name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == f"{path}{reason.format(path)}"

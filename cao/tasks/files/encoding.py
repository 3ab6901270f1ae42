"""What is no text in UTF-8 is refused with the command that makes such a text of it."""

from collections.abc import Iterable
from pathlib import Path

from cao.errors import InputError

_STARTS = (
    (b"\x1f\x8b", "compressed by gzip; unpack it: gunzip {}"),
    (b"PK\x03\x04", "a zip archive; unpack it: unzip {}"),
    (b"PAR1", "a Parquet file; let its name end in .parquet"),
    (b"ARROW1", "an Arrow (Feather) file; save the table as Parquet"),
    (b"FEA1", "a Feather file; save the table as Parquet"),
    (b"\xff\xfe", "UTF-16; make it UTF-8: iconv -f UTF-16 -t UTF-8 {} > NEW"),
    (b"\xfe\xff", "UTF-16; make it UTF-8: iconv -f UTF-16 -t UTF-8 {} > NEW"),
)
"""First bytes of a file → what it is, and what to do."""

_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\x1b")


def check_encoding(path: Path, lines: Iterable[bytes]) -> None:
    """Refuse a file that is no text in UTF-8.

    Args:
        path: the file, for messages.
        lines: of it.

    Raises:
        InputError: it is something else.
    """
    for number, line in enumerate(lines, 1):
        if number == 1:
            _check_start(path, line)
        try:
            line.decode()
        except UnicodeDecodeError as error:
            text = line.translate(None, _CONTROLS) == line
            advice = f"; if it is Latin-1: iconv -f LATIN1 -t UTF-8 {path} > NEW" if text else ", nor any other text"
            raise InputError(f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line){advice}") from None


def _check_start(path: Path, line: bytes) -> None:
    known = next((reason for start, reason in _STARTS if line.startswith(start)), None)
    if known is not None:
        raise InputError(f"{path}: {known.format(path)}")
    for kind, zeros in (("UTF-16LE", line[1:200:2]), ("UTF-16BE", line[0:200:2])):
        if 2 * zeros.count(0) > len(zeros):
            raise InputError(f"{path}: {kind}; make it UTF-8: iconv -f {kind} -t UTF-8 {path} > NEW")

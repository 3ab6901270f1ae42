"""What a run's folder is read from and added to."""

import os
from pathlib import Path

import pytest

from agent.record.regular import read_regular
from cao.files import append_line


def test_what_is_read_and_added_to_is_a_file_and_no_way_to_another(tmp_path: Path) -> None:
    outside, pipe = tmp_path / "outside", tmp_path / "pipe"
    outside.write_text("theirs\n")
    (tmp_path / "link").symlink_to(outside)
    os.mkfifo(pipe)
    assert read_regular(outside) == b"theirs\n"
    for path, words in ((tmp_path / "link", "symbolic links"), (pipe, "no plain"), (Path("/dev/zero"), "no plain")):
        with pytest.raises(OSError, match=words):
            read_regular(path)
    with pytest.raises(OSError, match="no plain file"):
        read_regular(outside, most=3)
    with pytest.raises(OSError, match="symbolic links"):
        append_line(tmp_path / "link", "ours")
    assert outside.read_text() == "theirs\n"

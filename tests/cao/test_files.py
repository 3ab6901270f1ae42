"""Files to which lines are added: what fails leaves nothing of a line behind."""

import os
import resource
from pathlib import Path

import pytest

from cao.errors import NoRoomError
from cao.files import append_line, check_sums, whole_lines, write_sums


def test_a_line_for_which_there_is_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    path, before = tmp_path / "lines", resource.getrlimit(resource.RLIMIT_FSIZE)
    append_line(path, "first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(NoRoomError, match="may not grow that large"):
            append_line(path, "x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append_line(path, "second")
    assert whole_lines(path) == ["first", "second"]


def test_a_line_that_does_not_reach_the_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "lines"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(KeyboardInterrupt):
            append_line(path, "first")
    append_line(path, "second")
    assert whole_lines(path) == ["second"]


def test_names_with_odd_separators_are_held_against_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "a\u2028b").write_text("x")
    write_sums(tmp_path, [tmp_path / "a\u2028b"])
    check_sums(tmp_path)

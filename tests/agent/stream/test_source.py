"""The stream's lines: whole, with their offsets, through a cut or rotated file, and what a prompt is."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from agent.stream.source import MAX_LINE, FileSource, PipeSource, next_lines, prompt_of
from agent.stream.state import WatchState
from agent.stream.watcher import Watcher
from cao.files import opened
from tests.agent.stream.colours import ColourEncoder, prompts
from tools.detect_drift.known_tasks import KnownTasks, Reference


def test_lines_come_whole_and_with_their_offsets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"one\n\ntwo\nlast")
    source = FileSource(path)
    assert next_lines(source, 0) == [(b"one", 4), (b"", 5), (b"two", 9)]
    assert next_lines(source, 9) == [(b"last", 13)]
    assert next_lines(source, 13) == []


def test_a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"x" * (3 * MAX_LINE) + b"\nnext\n")
    (long, end), *rest = next_lines(FileSource(path), 0)
    assert (len(long), end) == (MAX_LINE + 1, 3 * MAX_LINE + 1)
    assert (rest or next_lines(FileSource(path), end)) == [(b"next", 3 * MAX_LINE + 6)]


def test_pipe_is_written_down_first_and_forgotten_when_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"one\ntwo\nthr")
    monkeypatch.setattr(sys, "stdin", os.fdopen(read))
    source = PipeSource(tmp_path / "journal")
    assert next_lines(source, 0) == [(b"one", 4), (b"two", 8)]
    assert (tmp_path / "journal").read_bytes() == b"one\ntwo\nthr"
    assert source.release(8) == 0
    assert (tmp_path / "journal").read_bytes() == b"thr"  # a part of a line is left
    assert source.release(8) == 0  # a kill came before the new offset was written down
    os.write(write, b"ee\n")
    os.close(write)
    assert next_lines(source, 0) == [(b"three", 6)]
    assert source.release(6) == 0
    assert (tmp_path / "journal").read_bytes() == b""
    assert next_lines(source, 0) == []


class Log:
    """A log that is written, rotated and cut while it is followed, and what a watch reads of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.folder, self.monkeypatch = folder / "log", folder / "w", monkeypatch
        self.folder.mkdir()
        self.read: list[str] = []
        self.notes: list[str] = []

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def rotate(self, name: str = "log.1") -> None:
        os.rename(self.path, self.path.with_name(name))

    def cut(self) -> None:
        os.truncate(self.path, 0)

    def follow(self, *steps: Any) -> dict[str, Any]:
        """Watch the log, taking a step whenever the watch waits for more; return the last event."""
        log, left = self, list(steps)

        class Reader(ColourEncoder):
            def embed(self, prompts: list[str], batch_size: int = 32) -> Tensor:
                log.read += [prompt for prompt in prompts if prompt not in known_prompts]
                return super().embed(prompts, batch_size)

        def wait(seconds: float) -> None:
            if left:
                left.pop(0)()
            else:
                source.follow = False

        known_prompts = prompts("red", 300, 5000)
        encoder = Reader(self.folder)
        source = FileSource(self.path, follow=True, tell=self.notes.append)
        self.monkeypatch.setattr("agent.stream.source.time.sleep", wait)
        known = KnownTasks({"red": Reference(encoder.embed(known_prompts))})
        held = self.folder / "state.json"
        state = WatchState(settings={"threshold": 1e9, "window": 32, "seed": 0}, current=["red"])
        state = WatchState.model_validate_json(opened(held.read_bytes())) if held.exists() else state
        Watcher(self.folder, source, encoder, known, state, lambda event: None).run()
        last: dict[str, Any] = json.loads((self.folder / "events.jsonl").read_text().splitlines()[-1])
        return last


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(tmp_path, monkeypatch)


def test_a_file_that_is_cut_is_read_from_its_beginning_and_said_so_once(log: Log) -> None:
    log.write("red 1\nred 2\n")
    log.follow(log.cut, lambda: log.write("red 3\n"), lambda: log.write("red 4\n"))
    assert log.read == ["red 1", "red 2", "red 3", "red 4"]
    assert log.notes == [f"{log.path}: was cut; reading what stands there now from its beginning"]


def test_a_file_that_is_cut_and_grows_longer_than_before_is_noticed_too(log: Log) -> None:
    log.write("red 1\nred 2\n")

    def begin_anew() -> None:
        log.cut()
        log.write("red 33\nred 44\nred 55\n")

    log.follow(begin_anew)
    assert log.read == ["red 1", "red 2", "red 33", "red 44", "red 55"]
    assert len(log.notes) == 1


def test_a_rotated_file_is_read_to_its_end_and_then_what_took_its_place(log: Log) -> None:
    log.write("red 1\n")

    def rotate() -> None:
        log.write("red 2\nred 3")  # the last line lacks its line feed
        log.rotate()

    log.follow(rotate, lambda: log.write("red 4\n"))
    assert log.read == ["red 1", "red 2", "red 3", "red 4"]
    assert log.notes == [
        f"{log.path}: was replaced and read to its end; reading what stands there now from its beginning"
    ]


def test_an_empty_file_may_be_rotated_and_a_longer_copy_in_its_place_goes_on(log: Log) -> None:
    log.write("")
    log.follow(log.rotate, lambda: log.write("red 1\n"), log.rotate, lambda: log.write("red 1\nred 2\n"))
    assert log.read == ["red 1", "red 2"]


@pytest.mark.parametrize(
    ("between", "read", "note"),
    [
        ("cut", ["red 3", "red 4"], "is not what was read before"),
        ("cut and grown", ["red 33", "red 44", "red 3", "red 4"], "is not what was read before"),
        ("rotated", ["red 2b", "red 3", "red 4"], "was replaced and read to its end"),
        ("rotated and gone", ["red 3", "red 4"], "is not what was read before"),
        ("nothing", ["red 3", "red 4"], None),
    ],
)
def test_a_watch_goes_on_in_the_right_file_after_a_stop(
    log: Log, between: str, read: list[str], note: str | None
) -> None:
    log.write("red 1\nred 2\n")
    log.follow()
    log.read.clear()
    if between.startswith("rotated"):
        log.write("red 2b\n")
        log.rotate()
    if between.endswith("gone"):
        (log.path.parent / "log.1").unlink()
    if between.startswith("cut"):
        log.cut()
    if between.endswith("grown"):
        log.write("red 33\nred 44\n")
    log.write("red 3\nred 4\n")
    assert log.follow()["prompts"] == 2 + len(read)
    assert log.read == read
    assert len(log.notes) == (note is not None)
    assert all(note is not None and note in told for told in log.notes)


@pytest.mark.parametrize(
    ("line", "prompt", "reason"),
    [
        (b"plain words", "plain words", None),
        (b'{"question": "why?", "context": "a tale"}', "a tale\nwhy?", None),
        (b'"quoted"', "quoted", None),
        (b'"Hello" she said. Why?', '"Hello" she said. Why?', None),
        (b"{x | x > 0} is what?", "{x | x > 0} is what?", None),
        (b'\xef\xbb\xbf{"question": "why?"}', "why?", None),
        ("\u200b\u0301".encode(), None, None),
        (b"  ", None, None),
        (b'{"question": " "}', None, None),
        (b'{"content": "why?"}', "why?", None),
        (b'{"role": "user", "content": [{"type": "text", "text": "why?"}, {"type": "image_url"}]}', "why?", None),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "user: a\nb", None),
        (b'{"messages": [{"role": "user", "content": "b"}], "context": "a tale"}', "a tale\nb", None),
        (b'{"messages": [{"role": "user", "content": 7}]}', None, "a turn of 'chat' is no text"),
        (b'[{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]', "why?", None),
        (b"[x for x in y] does what?", "[x for x in y] does what?", None),
        (b'{"question"', None, "not JSON, but begins like it"),
        (b"\xff\xfe", None, "not text in UTF-8"),
        (b'{"text": "x"}', "x", None),
        (b'{"body": "x"}', None, "expected an object with 'prompt', 'question', 'content' or 'messages'"),
        (b'["a", "b"]', None, "expected a string, found list"),
        (b'{"role": "assistant", "content": "so"}', None, "a message of another role than 'user' is no prompt"),
        (b'{"messages": [{"role": "system", "content": "a"}]}', None, "a chat without a message of the user"),
        (b"x" * (MAX_LINE + 1), None, "longer than 100,000 bytes"),
    ],
)
def test_a_line_is_a_prompt_or_is_skipped_with_a_reason(line: bytes, prompt: str | None, reason: str | None) -> None:
    assert prompt_of(line) == (prompt, reason)

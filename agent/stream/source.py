"""Prompts from a file or a pipe, line by line from a byte offset on, so that a killed process can go on.

A log file is rotated: moved away and begun anew, or cut to nothing under its name. The bytes before an offset and the
file's inode tell whether the offset is still one of the same text.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from agent.stream.options import WatchOptions
from cao.errors import InputError
from cao.files import write_atomic
from cao.tasks.prompt_file import TABLES, asked_from, value_of
from cao.tasks.prompt_text import seen

MAX_LINE = 100_000
"""Bytes of one line; a longer one is skipped and reported."""

CHUNK = 65_536
"""Bytes read at once."""

MARKED = 64
"""Bytes before an offset that a file is recognised by."""

JOURNAL = "journal.jsonl"
"""File of a watch's folder that keeps what was read of a pipe."""

_POLL_S = 0.5


class Mark(BaseModel):
    """What a file is recognised by.

    Attributes:
        offset: the byte behind what was dealt with.
        before: up to 64 bytes before it, as hexadecimal digits.
        inode: of the file.
    """

    model_config = ConfigDict(extra="forbid")

    offset: int = 0
    before: str = ""
    inode: int | None = None

    def holds_in(self, file: BinaryIO) -> bool:
        """Return whether a file has the marked bytes where they were."""
        expected = bytes.fromhex(self.before)
        file.seek(self.offset - len(expected))
        return file.read(len(expected)) == expected and os.fstat(file.fileno()).st_size >= self.offset


def warn(note: str) -> None:
    """Write a note on standard error."""
    sys.stderr.write(f"note: {note}\n")


def from_standard_input() -> bytes:
    """Return what standard input gives next, empty at its end."""
    return os.read(sys.stdin.fileno(), CHUNK)


@dataclass
class FileSource:
    """A file, followed as ``tail -F`` does where it is cut or replaced.

    Attributes:
        path: the file.
        follow: wait for more at its end.
        tell: says that another text is read from here on.
    """

    path: Path
    follow: bool = False
    tell: Callable[[str], None] = warn
    _file: BinaryIO | None = field(default=None, init=False, repr=False)
    _mark: Mark = field(default_factory=Mark, init=False, repr=False)
    _over: bool = field(default=False, init=False, repr=False)

    def resume(self, offset: int, mark: Mark | None) -> int:
        """Return the offset to go on from, in the file that an earlier process was reading.

        Args:
            offset: behind what was dealt with.
            mark: of the file at that offset, None where none was kept.
        """
        self._mark = mark or Mark(offset=offset)
        self._file = self._open(self.path)
        if self._mark.holds_in(self._file):
            return offset
        moved = self._moved()
        if moved is None:
            return self._begin("is not what was read before, which was cut or moved away")
        self._file.close()
        self._file = moved
        return offset

    def read(self, offset: int) -> bytes:
        """Return bytes at an offset; empty at the end of the stream, or of this file if ``turn`` has another one.

        Waits for some with ``follow``.

        Raises:
            InputError: the file cannot be read.
        """
        file = self._file or self._open(self.path)
        self._file = file
        try:
            while True:
                replaced = self._replaced(file)  # asked first: what was written before is read below
                cut = not self._mark.holds_in(file)
                file.seek(offset)
                data = b"" if cut else file.read(CHUNK)
                self._over = not data and (cut or replaced)
                if data or self._over or not self.follow:
                    return data
                time.sleep(_POLL_S)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None

    def turn(self) -> int | None:
        """Return the offset to read on from where this file came to an end and another text follows, else None."""
        if not self._over:
            return None
        self._over = False
        assert self._file is not None, "only what was read can end"
        if not self._replaced(self._file):
            return self._begin("was cut")
        self._file.close()
        self._file = self._open(self.path)
        return self._mark.offset if self._mark.holds_in(self._file) else self._begin("was replaced and read to its end")

    def mark(self, offset: int) -> Mark | None:
        """Return what the file is recognised by once everything before ``offset`` was dealt with."""
        if self._file is not None and self._mark.holds_in(self._file):  # else it was cut since, which must show
            start = max(0, offset - MARKED)
            self._file.seek(start)
            before = self._file.read(offset - start)
            self._mark = Mark(offset=offset, before=before.hex(), inode=os.fstat(self._file.fileno()).st_ino)
        return self._mark

    def release(self, offset: int) -> int:
        """Return the offset to go on from, which stays: nothing of a file is kept here."""
        return offset

    def _begin(self, why: str) -> int:
        self.tell(f"{self.path}: {why}; reading what stands there now from its beginning")
        self._mark = Mark()
        return 0

    def _open(self, path: Path) -> BinaryIO:
        try:
            return path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None

    def _replaced(self, file: BinaryIO) -> bool:
        """Return whether the path names another file by now; nothing there may be the middle of a rotation."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _moved(self) -> BinaryIO | None:
        """Return the marked file under another name beside the path, as a rotation leaves it."""
        for entry in os.scandir(self.path.parent):
            if entry.inode() == self._mark.inode and entry.name.startswith(self.path.name) and entry.is_file():
                file = self._open(Path(entry.path))
                if self._mark.holds_in(file):
                    return file
                file.close()
        return None


@dataclass
class PipeSource:
    """Standard input, or the like of it, written to a journal before anything is done with it.

    Attributes:
        journal: the file; what was dealt with is cut off again and again.
        more: returns what comes next, empty at the end.
    """

    journal: Path
    more: Callable[[], bytes] = from_standard_input

    def resume(self, offset: int, mark: Mark | None) -> int:
        """Return the offset to go on from: the journal is nobody else's."""
        return offset

    def turn(self) -> None:
        """Return None: nothing follows a pipe's end."""

    def mark(self, offset: int) -> None:
        """Return None: the journal needs no recognising."""

    def read(self, offset: int) -> bytes:
        """Return bytes at an offset of the journal, which takes what the pipe gives next; empty at its end."""
        with self.journal.open("a+b") as file:
            if file.seek(0, os.SEEK_END) <= offset:
                file.write(self.more())
                file.flush()
                os.fsync(file.fileno())
            file.seek(offset)
            return file.read(CHUNK)

    def release(self, offset: int) -> int:
        """Cut off what was dealt with, once the rest is the smaller part; return the offset to go on from.

        A kill before that offset is written down leaves one beyond the journal's end, which says the same.
        """
        size = self.journal.stat().st_size if self.journal.exists() else 0
        if offset > size:
            return 0
        if size - offset < offset:
            with self.journal.open("rb") as file:
                file.seek(offset)
                rest = file.read()
            write_atomic(self.journal, rest)
            return 0
        return offset


def source_of(options: WatchOptions, say: Callable[[str], None] = warn) -> FileSource | PipeSource:
    """Return where a watch reads its lines.

    Args:
        options: what the command takes.
        say: shows a line on what became of the file.

    Raises:
        InputError: there is no such file, it is a table, or it cannot be read anew after a stop.
    """
    if options.stream == "-":
        return PipeSource(options.out / JOURNAL)
    path = Path(options.stream)
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory")
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if path.suffix.lower() in TABLES:
        raise InputError(f"{path}: is a table, and a stream has one prompt a line; agent.drift --windows reads it")
    if not os.path.isfile(path):
        raise InputError(f"{path}: is no regular file and cannot be read anew after a stop; give --stream - < {path}")
    return FileSource(path, options.follow, say)


def next_lines(source: FileSource | PipeSource, offset: int) -> list[tuple[bytes, int]]:
    """Return the complete lines at an offset, as soon as there are any, each with the offset behind it.

    The last line of a stream needs no line feed; at the end there are none. A line longer than ``MAX_LINE`` comes as
    its beginning, one byte longer than allowed, and its rest is passed over.
    """
    data, passed = b"", 0  # bytes of an over-long line that are not kept
    while more := source.read(offset + len(data) + passed):
        data += more
        if b"\n" in data:
            lines = []
            for line in data[: data.rfind(b"\n")].split(b"\n"):
                offset += len(line) + 1 + passed
                passed = 0
                lines.append((line[: MAX_LINE + 1], offset))
            return lines
        if len(data) > MAX_LINE + 1:
            passed += len(data) - MAX_LINE - 1
            data = data[: MAX_LINE + 1]
    return [(data[: MAX_LINE + 1], offset + passed + len(data))] if data else []


def prompt_of(raw: bytes) -> tuple[str | None, str | None]:
    """Return a line's prompt, or None and why the line is skipped (no reason for a blank one)."""
    if len(raw) > MAX_LINE:
        return None, f"longer than {MAX_LINE:,} bytes"
    try:
        prompt = asked_from(value_of(raw.decode(), "the line"), "the line").prompt
    except UnicodeDecodeError:
        return None, "not text in UTF-8"
    except InputError as error:
        return None, str(error).removeprefix("the line: ")
    return (prompt, None) if seen(prompt) else (None, None)

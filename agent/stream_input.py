"""Prompts from a file or a pipe, line by line from a byte offset on, so that a killed process can go on."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cao.errors import InputError
from cao.files import write_atomic

MAX_LINE = 100_000
"""Bytes of one line; a longer one is skipped and reported."""

CHUNK = 65_536
"""Bytes read at once."""

_POLL_S = 0.5


@dataclass
class FileSource:
    """A file.

    Attributes:
        path: the file.
        follow: wait for more at its end.
    """

    path: Path
    follow: bool = False

    def read(self, offset: int) -> bytes:
        """Return bytes at an offset, empty at the end of the stream; waits for some with ``follow``.

        Raises:
            InputError: the file cannot be read, or became shorter than what was read of it.
        """
        while True:
            try:
                with self.path.open("rb") as file:
                    if os.fstat(file.fileno()).st_size < offset:
                        raise InputError(f"{self.path}: is shorter than what was read of it; give another --out")
                    file.seek(offset)
                    data = file.read(CHUNK)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None
            if data or not self.follow:
                return data
            time.sleep(_POLL_S)

    def release(self, offset: int) -> int:
        """Say that everything before ``offset`` was dealt with; return the offset to go on from."""
        return offset


@dataclass
class PipeSource:
    """Standard input, written to a journal before anything is done with it.

    Attributes:
        journal: the file; what was dealt with is cut off again and again.
    """

    journal: Path

    def read(self, offset: int) -> bytes:
        """Return bytes at an offset of the journal, which takes what the pipe gives next; empty at its end."""
        with self.journal.open("a+b") as file:
            if file.seek(0, os.SEEK_END) <= offset:
                file.write(os.read(sys.stdin.fileno(), CHUNK))
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


def next_lines(source: FileSource | PipeSource, offset: int) -> list[tuple[bytes, int]]:
    """Return the complete lines at an offset, as soon as there are any, each with the offset behind it.

    The last line of a stream needs no line feed; at the end there are none. A line longer than ``MAX_LINE`` comes as
    its beginning, one byte longer than allowed, and its rest is passed over.
    """
    data, passed = b"", 0  # bytes of an over-long line that are not kept
    while more := source.read(offset + len(data) + passed):
        data += more
        if b"\n" in data:
            found = []
            for line in data[: data.rfind(b"\n")].split(b"\n"):
                offset += len(line) + 1 + passed
                passed = 0
                found.append((line[: MAX_LINE + 1], offset))
            return found
        if len(data) > MAX_LINE + 1:
            passed += len(data) - MAX_LINE - 1
            data = data[: MAX_LINE + 1]
    return [(data[: MAX_LINE + 1], offset + passed + len(data))] if data else []

"""A command on a terminal of its own: what it printed and when, and which rows stood there from when to when."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyte
from pyte.screens import Char

COLUMNS, ROWS = 100, 34
READ_BYTES = 65_536
KEPT_ROWS = 10_000
"""That have scrolled away."""
PLAIN = ("default", False)

Span = tuple[str, str, bool]
"""Text of one look: what stands there, its colour as pyte names it, whether it is bold."""


@dataclass(frozen=True)
class Row:
    """A row of the terminal for as long as it looked so.

    Attributes:
        number: counted from the first row ever written.
        spans: what stood there.
        begin, end: seconds; end is None for what stayed.
    """

    number: int
    spans: tuple[Span, ...]
    begin: float
    end: float | None = None


def record(command: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[list[tuple[float, bytes]], int]:
    """Run a command on a terminal of ``COLUMNS`` times ``ROWS``.

    Args:
        command: its words.
        env: the environment, this process's when None.

    Returns:
        What it printed, each piece with the seconds since the start, and its exit status.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    told = {**(os.environ if env is None else env), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    began, pieces = time.monotonic(), []
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=told, close_fds=True) as process:
        os.close(theirs)
        while True:
            try:
                piece = os.read(ours, READ_BYTES)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            pieces.append((time.monotonic() - began, piece))
    os.close(ours)
    return pieces, process.returncode


def rows_of(pieces: Sequence[tuple[float, bytes]], every: float) -> tuple[list[Row], list[tuple[float, int]]]:
    """Return what stood on the terminal.

    Args:
        pieces: what was printed, and when, s.
        every: seconds between two looks; what came and went between them is left out.

    Returns:
        The rows, and from when on which row was the first on the screen.
    """
    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=KEPT_ROWS)
    stream = pyte.ByteStream(screen)
    standing: dict[int, Row] = {}
    gone: list[Row] = []
    tops: list[tuple[float, int]] = [(0.0, 0)]
    for index, (when, piece) in enumerate(pieces):
        stream.feed(piece)
        following = pieces[index + 1][0] if index + 1 < len(pieces) else None
        if following is not None and following // every == when // every:
            continue
        top = len(screen.history.top)
        lines = [*screen.history.top, *(screen.buffer[row] for row in range(ROWS))]
        for number, line in enumerate(lines[:top] + lines[top:]):
            spans = _spans([line[column] for column in range(COLUMNS)])
            old = standing.get(number)
            if old is not None and old.spans == spans:
                continue
            if old is not None:
                gone.append(Row(number, old.spans, old.begin, when))
                del standing[number]
            if spans:
                standing[number] = Row(number, spans, when)
        if top != tops[-1][1]:
            tops.append((when, top))
    return sorted([*gone, *standing.values()], key=lambda row: (row.begin, row.number)), tops


def _spans(line: Sequence[Char]) -> tuple[Span, ...]:
    """Return a row's texts of one look each, empty for an empty row."""
    spans: list[Span] = []
    for char in line:
        look = (char.fg, char.bold)
        if spans and (spans[-1][1], spans[-1][2]) == look:
            spans[-1] = (spans[-1][0] + char.data, *look)
        else:
            spans.append((char.data, *look))
    if spans and spans[-1][1:] == PLAIN:
        spans[-1] = (spans[-1][0].rstrip(), *PLAIN)
    return tuple(span for span in spans if span[0])

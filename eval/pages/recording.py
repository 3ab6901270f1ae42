"""``python -m eval.pages.recording``: run a command on a terminal, and draw what it showed as a moving SVG.

The picture keeps the run's own order and times, all shortened by one factor; how long it took stands in its title.
Where nothing moves, the end is shown.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from cao.command_line import run_command
from cao.errors import InputError
from cao.files import write_atomic
from cao.options import program
from eval.pages.terminal_tape import COLUMNS, ROWS, Row, Span, record, rows_of

ROOT = Path(__file__).resolve().parents[2]
COMMAND = f"{sys.executable} -m agent.run --task arc_easy"
SECONDS, HELD = 40.0, 0.2
"""Of the whole picture, and the share of it in which the end stands still."""
LOOKS = 120
"""At the terminal in a picture: what came and went between two is left out."""

WIDTH, HEIGHT, LEFT, TOP = 8.0, 17.0, 14.0, 46.0
"""Pixels of a character and a row, and where the first stands."""
GROUND, INK = "#1e1e2e", "#d7dae0"
COLOURS = {"green": "#8bd49c", "cyan": "#76c7d8", "brown": "#e5c07b", "red": "#ef8891", "blue": "#82aaff"}
"""As pyte names them; other colours are hexadecimal."""
STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;"
    f"fill:{INK}}}.b{{font-weight:700}}.t{{fill:#9aa0ab}}"
)


def picture(pieces: Sequence[tuple[float, bytes]], command: str, seconds: float = SECONDS) -> str:
    """Return the SVG of a recording.

    Args:
        pieces: what was printed, and when, s.
        command: as a person types it.
        seconds: how long the picture takes before it begins again.

    Raises:
        InputError: nothing was printed.
    """
    if not pieces:
        raise InputError(f"{command}: printed nothing")
    whole = pieces[-1][0]
    rows, tops = rows_of(pieces, whole / LOOKS)
    scale = (1 - HELD) * 100 / max(whole, 1e-9)
    width, height = 2 * LEFT + COLUMNS * WIDTH, TOP + ROWS * HEIGHT + LEFT
    drawn = [_row(index, row, scale, seconds) for index, row in enumerate(rows)]
    moves = [f"{_share(when, scale)}{{transform:translateY({-top * HEIGHT:g}px)}}" for when, top in tops]
    minutes = f"{int(whole) // 60} min {int(whole) % 60} s" if whole >= 60 else f"{whole:.0f} s"
    title = f"{command}   ({minutes}, shown in {(1 - HELD) * seconds:.0f} s)"
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
            f"<title>{escape(title)}</title><style>{STYLE}",
            f"@keyframes m{{{''.join(moves)}100%{{transform:translateY({-tops[-1][1] * HEIGHT:g}px)}}}}",
            f".m{{animation:m {seconds:g}s step-end infinite}}</style>",
            f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{GROUND}"/>',
            *(f'<circle cx="{LEFT + 6 + 18 * n:g}" cy="16" r="5.5" fill="#5c6370"/>' for n in range(3)),
            f'<text class="t" x="{LEFT + 64:g}" y="21">{escape(title)}</text>',
            f'<svg x="{LEFT:g}" y="{TOP - HEIGHT + 4:g}" width="{COLUMNS * WIDTH:g}" height="{ROWS * HEIGHT + 4:g}">',
            f'<g class="m" transform="translate(0 {-tops[-1][1] * HEIGHT:g})">',
            *drawn,
            "</g></svg></svg>\n",
        ]
    )


def _share(when: float, scale: float) -> str:
    return f"{when * scale:.2f}%"


def _row(index: int, row: Row, scale: float, seconds: float) -> str:
    """Return a row, seen from when it stood there to when something else did."""
    begin, end = _share(row.begin, scale), _share(row.end, scale) if row.end is not None else "100%"
    hidden = "" if row.end is None else f"{end},100%{{visibility:hidden}}"
    frames = f"@keyframes r{index}{{0%{{visibility:hidden}}{begin}{{visibility:visible}}{hidden}}}"
    style = f"<style>{frames}.r{index}{{animation:r{index} {seconds:g}s step-end infinite}}</style>"
    spans = "".join(map(_span, row.spans))
    passed = "" if row.end is None else ' visibility="hidden"'
    return f'{style}<text class="r{index}"{passed} y="{(row.number + 1) * HEIGHT - 4:g}">{spans}</text>'


def _span(span: Span) -> str:
    text, colour, bold = span
    shown = "" if colour == "default" else f' fill="{COLOURS.get(colour, f"#{colour}")}"'
    look = f"{shown}{' class=' + chr(34) + 'b' + chr(34) if bold else ''}"
    length = f' textLength="{len(text) * WIDTH:g}"'
    return f"<tspan{look}{length}>{escape(text)}</tspan>"


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog=program("eval.pages.recording"), description=(__doc__ or "").split("``: ")[-1])
    p.add_argument("--command", metavar="TEXT", default=COMMAND, help="what is run (default: a run on arc_easy)")
    p.add_argument("--shown", metavar="TEXT", default="cao run --task arc_easy", help="how it is written in the title")
    p.add_argument("--out", metavar="FILE", type=Path, default=ROOT / "docs/start/recording.svg")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)

    def body() -> int:
        pieces, status = record(shlex.split(arguments.command))
        if status:
            raise InputError(f"{arguments.shown}: ended with exit status {status}")
        write_atomic(arguments.out, picture(pieces, arguments.shown))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())

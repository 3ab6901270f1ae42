"""A command on a terminal becomes a picture: what stood there, when, and nothing that it could run."""

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("pyte")

from cao.errors import InputError
from eval.pages.recording import main, picture
from eval.pages.terminal_tape import ROWS, record, rows_of

ROOT = Path(__file__).parents[3]
SVG = "{http://www.w3.org/2000/svg}"
PIECES = [
    (0.0, b"first\r\n"),
    (1.0, b"\x1b[32mworking\x1b[0m 1"),
    (2.0, b"\r\x1b[2K\x1b[1mdone\x1b[0m <b> & more\r\n"),
    (4.0, b"last"),
]


def test_rows_stand_from_when_they_were_written_to_when_they_changed() -> None:
    rows, tops = rows_of(PIECES, 0.1)
    seen = [("".join(text for text, _, _ in row.spans), row.number, row.begin, row.end) for row in rows]
    assert seen == [
        ("first", 0, 0.0, None),
        ("working 1", 1, 1.0, 2.0),
        ("done <b> & more", 1, 2.0, None),
        ("last", 2, 4.0, None),
    ]
    assert rows[1].spans[0] == ("working", "green", False)
    assert rows[2].spans[0] == ("done", "default", True)
    assert tops == [(0.0, 0)]


def test_what_scrolls_away_is_kept_and_the_screen_moves_on() -> None:
    rows, tops = rows_of([(0.0, b"start\r\n"), (1.0, b"".join(b"%d\r\n" % n for n in range(ROWS + 9)))], 0.1)
    assert rows[0].spans[0][0] == "start"
    assert rows[-1].spans[0][0] == str(ROWS + 8)
    assert tops == [(0.0, 0), (1.0, 11)]


def test_a_look_between_two_changes_shows_the_later_one() -> None:
    rows, _ = rows_of([(0.01 * n, b"\r%d" % n) for n in range(50)], 10.0)
    assert [row.spans[0][0] for row in rows] == ["49"]


def test_the_picture_is_one_file_of_text_that_fetches_and_runs_nothing() -> None:
    text = picture(PIECES, "cao <run>")
    root = ElementTree.fromstring(text)
    assert "cao <run>   (4 s, shown in 32 s)" in "".join(root.itertext())
    assert "done <b> & more" in ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        *("svg", "title", "style", "rect", "circle", "text", "tspan", "g"),
    }
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_command_is_recorded_on_a_terminal_with_its_status() -> None:
    code = "import sys; print(sys.stdout.isatty(), flush=True); sys.exit(3)"
    pieces, status = record([sys.executable, "-c", code])
    assert (b"".join(piece for _, piece in pieces), status) == (b"True\r\n", 3)
    assert pieces[0][0] > 0


def test_a_command_that_fails_or_says_nothing_leaves_no_picture(tmp_path: Path) -> None:
    out = tmp_path / "x.svg"
    assert main(["--command", f"{sys.executable} -c 'exit(1)'", "--out", str(out)]) == 2
    with pytest.raises(InputError, match="printed nothing"):
        picture([], "true")
    assert not out.exists()


def test_the_recording_of_the_readme_is_small_and_of_a_whole_run() -> None:
    text = (ROOT / "docs/start/recording.svg").read_text(encoding="utf-8")
    assert len(text.encode()) <= 150_000
    told = "".join(ElementTree.fromstring(text).itertext())
    assert "detect" in told
    assert "report.html" in told
    assert "test questions" in told

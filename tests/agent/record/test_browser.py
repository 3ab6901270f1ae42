"""The report in a real browser: it complains of nothing, fits a phone, filters its questions, and runs nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.record.page.questions import keep_questions
from agent.record.page.report import write_report
from cao.tasks.base import choice_example
from cao.tasks.splits import Splits
from cao.types import Item
from tests.agent import run_folders as made
from tests.agent.record.report_pages import answered
from tests.browser import DESK, PHONE, Browser, browser
from tools.evaluate import save_items

SHOWN = "[...document.querySelectorAll('.asked')].filter((card) => card.offsetParent).length"
CHOOSE = "[...document.querySelectorAll('button')].find((b) => b.textContent.startsWith({!r})).click()"
SEARCH = (
    "(() => {{ const i = document.querySelector('input'); i.value = {!r}; i.dispatchEvent(new Event('input')) }})()"
)
ATTACK = "</script></style><img src=x onerror='window.hit=1'><script>window.hit=1</script>\u202e\x1b[31m"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the report of a run with thirty questions, eighteen of which flipped."""
    path = made.write_run(tmp_path_factory.mktemp("runs"), "one", made.started_run("one"))
    made.write_all_items(path)
    made.write_picture(answered(path, base=[0] * 12 + [1] * 18, adapted=[1] * 12 + [0] * 6 + [1] * 12))
    return write_report(path).as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [DESK, PHONE])
def test_it_fits_the_screen_and_nothing_complains(
    chromium: Browser, run: str, size: tuple[int, int], dark: bool
) -> None:
    chromium.complaints.clear()
    chromium.open(run, size, dark=dark)
    assert chromium.ask("document.documentElement.scrollWidth") <= size[0]
    wide = "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, svg') && e.clientWidth > 0"
    wide += " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    assert chromium.ask(wide) == []
    small = "[...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height)"
    assert min(chromium.ask(small)) >= 10  # of a letter's whole line
    background = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert (int(background[4:].split(",")[0]) < 60) == dark
    assert chromium.complaints == []


def test_the_filter_hides_and_the_search_finds(chromium: Browser, run: str) -> None:
    chromium.open(run)
    kinds = "[...new Set([...document.querySelectorAll('.asked')].filter((c) => c.offsetParent)"
    kinds += ".map((c) => c.dataset.kind))].sort()"
    assert chromium.ask(kinds) == ["became right"]  # the first ten of the flips
    assert chromium.ask("document.querySelector('output').textContent") == "10 of 18 shown"
    chromium.ask("document.querySelector('[data-more]').click()")
    assert chromium.ask(SHOWN) == 18
    assert chromium.ask(kinds) == ["became right", "became wrong"]
    chromium.ask(CHOOSE.format("stayed right"))
    assert (chromium.ask(SHOWN), chromium.ask(kinds)) == (10, ["stayed right"])
    chromium.ask(CHOOSE.format("all"))
    chromium.ask(SEARCH.format("52 WINGS"))
    assert chromium.ask(SHOWN) == 1
    chromium.ask(SEARCH.format("no such words"))
    assert (chromium.ask(SHOWN), chromium.ask("document.querySelector('output').textContent")) == (
        0,
        "no question fits",
    )


def test_without_scripts_every_question_is_shown_and_no_button(chromium: Browser, run: str) -> None:
    chromium.open(run, script=False)
    assert chromium.ask(SHOWN) == 30
    assert chromium.ask("[...document.querySelectorAll('button')].filter((b) => b.offsetParent).length") == 0


def test_printing_leaves_the_controls_out(chromium: Browser, run: str) -> None:
    chromium.open(run)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.ask("document.querySelector('.tools').offsetParent === null") is True
    assert chromium.ask("document.querySelector('nav').offsetParent === null") is True
    assert chromium.ask(SHOWN) == 10
    chromium.call("Emulation.setEmulatedMedia", media="screen")


def test_a_hostile_run_runs_nothing(chromium: Browser, tmp_path: Path) -> None:
    record: dict[str, Any] = made.hostile("hostile")
    record["task"] = record["context"] = record["trials"][1]["reason"] = ATTACK
    path = made.write_run(tmp_path, "hostile", record)
    example = choice_example(ATTACK, [ATTACK, "b"], 1)
    keep_questions(path, Splits([], [], [example]))
    for name in ("test-baseline", "test-adapted"):
        item = Item(id=example.id, scores=(0, 0), choice=0, gold=1, correct=False, loss=1.0)
        save_items(path / "items" / f"{name}.jsonl", [item])
    chromium.complaints.clear()
    chromium.open(write_report(path).as_uri(), PHONE)
    assert chromium.ask("window.hit === undefined") is True
    assert "window.hit=1" in chromium.ask("document.querySelector('.asked').textContent")
    assert chromium.ask("document.documentElement.scrollWidth") <= PHONE[0]
    assert chromium.ask("document.images.length") == 0
    assert chromium.complaints == []

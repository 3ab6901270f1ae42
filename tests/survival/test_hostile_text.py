"""Markup, terminal escapes and bidi characters in questions, policies' texts and records: shown, and without effect."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from agent import run, trace
from agent.handover.card import as_text, card
from agent.record.schema import RunRecord
from cao.encodings import visible
from tests.agent import run_folders
from tests.agent.run.tiny_runs import LATENT, strategies, write_rows
from tests.survival.conftest import Whole
from tests.survival.damage import Ended, ended

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> [bold]b[/] [/] [link=http://x]l[/link] ![i](http://x/i.png) "
    '\x1b[2J\x1b]0;title\x07 \x9b31m \u202etfel\u202c \u2066 \u200b =HYPERLINK("http://x") {{ 7*7 }} `c` | &'
)
ARROWS = ("\x1b", "\x07", "\x9b", "\u202e", "\u202c", "\u2066", "\u200b")
"""Characters of it that steer a terminal, or hide."""


class Tags(HTMLParser):
    """The elements of a page, and the names of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, tuple[str, ...]]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add((tag, tuple(name for name, _ in attrs)))


@pytest.fixture(scope="module")
def hostile(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended, Ended]:
    """A run whose questions, choices and policy are hostile: its folder, and what it told with and without --json."""
    place = tmp_path_factory.mktemp("hostile")
    rows = [
        {"question": f"{HOSTILE} {n}", "choices": [f"{HOSTILE} a", "=1+1", "[/bold]"], "answer": n % 3}
        for n in range(60)
    ]
    path = write_rows(place / "[bold]odd[!](x).jsonl", rows)
    texts = strategies(place, HOSTILE.replace("\n", " "), json.dumps({"family": HOSTILE, HOSTILE: HOSTILE}), LATENT)
    argv = ["--task", str(path), *whole.argv[2:], "--max-attempts", "2"]
    argv += ["--set", f"policy_settings.strategy_file={texts}", "--out", str(place / "runs")]
    told = ended(run.main, argv)
    assert told.status == 0, told.err
    [folder] = (place / "runs").glob("[!.]*")
    again = ended(run.main, ["--resume", folder.name, "--out", str(place / "runs"), "--offline", "--json"])
    assert again.status == 0, again.err
    return folder, told, again


def harmless(text: str) -> bool:
    """Return whether a text can neither steer a terminal nor hide anything."""
    return all(line == visible(line) for line in text.replace("\t", " ").split("\n"))


def test_the_terminal_and_json_show_it_and_are_not_steered(hostile: tuple[Path, Ended, Ended]) -> None:
    folder, told, again = hostile
    out = ["--out", str(folder.parent)]
    shown = [ended(trace.main, [*words, *out]) for words in (["show", folder.name], ["list"], ["graph", folder.name])]
    shown.append(ended(trace.main, ["diff", folder.name, folder.name, *out]))
    for one in (told, again, *shown):
        assert one.status == 0, one.err
        assert harmless(one.out), one.out
        assert harmless(one.err), one.err
    assert "[bold]" in shown[0].out  # as it was written, not as markup
    record = json.loads(again.out)
    assert again.out.isascii()
    assert record["trials"][0]["raw"].startswith("<script>")
    shown_as_json = ended(trace.main, ["show", folder.name, "--json", *out])
    assert shown_as_json.out.isascii()


def test_the_report_has_no_element_that_a_calm_one_has_not(hostile: tuple[Path, Ended, Ended], whole: Whole) -> None:
    pages = []
    for folder in (hostile[0], whole.folder):
        tags, page = Tags(), (folder / "report.html").read_text(encoding="utf-8")
        tags.feed(page)
        pages.append((tags.seen, page))
    (odd, page), (calm, _) = pages
    assert {tag for tag, _ in odd} <= {tag for tag, _ in calm}
    assert not [names for _, names in odd if any(name.startswith("on") for name in names)]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not [arrow for arrow in ARROWS if arrow in page]


def elements(text: str) -> list[str]:
    """Return the kinds of elements that a text in Markdown becomes, a front matter aside."""
    parsed = MarkdownIt("gfm-like", {"linkify": False}).parse(text.partition("\n---\n")[2])
    return sorted({one.type for token in parsed for one in (token, *(token.children or ()))})


def test_a_model_card_holds_it_as_text() -> None:
    record = run_folders.record("some-run-20261123-204107-ab12")
    calm = card(RunRecord.model_validate(record), "adopted", (".",))
    named = {"task": HOSTILE, "model": HOSTILE, "versions": {"cao-llm": HOSTILE}, "finished": HOSTILE}
    named["drift"] = {**record["drift"], "nearest_task": HOSTILE, "sentence": HOSTILE, "caveats": [HOSTILE]}
    odd = card(RunRecord.model_validate({**record, **named}), "adopted", (".",))
    assert harmless(odd)
    assert set(elements(odd)) - {"text_special"} <= set(elements(calm))
    assert {"image", "html_inline", "link_open"}.isdisjoint(elements(odd))


def test_markdown_of_a_text_is_that_text() -> None:
    assert as_text("a_b (c) 1*2") == r"a_b (c) 1\*2"
    assert as_text("[a](http://x) <b> `c` | \\") == r"\[a\](http://x) \<b\> \`c\` \| \\"

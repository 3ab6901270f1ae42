import json
import re
import shlex
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import run
from agent.config import RunConfig, make_config
from agent.record import commands, wording
from agent.record.charts import ticks
from agent.record.questions import SHOWN, keep_questions
from agent.record.reading import read_run
from agent.record.report import EDGES, NODES, write_report
from agent.record.schema import Run, TestPart
from cao.errors import InputError
from cao.tasks.base import choice_example
from cao.tasks.splits import Splits
from cao.types import Example, Item
from tests.agent import run_folders as made
from tools.evaluate import save_items

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(path: Path) -> tuple[str, Page]:
    html = write_report(path).read_text(encoding="utf-8")
    return html, Page(html)


def test_the_report_says_the_outcome_in_numbers(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    _, page = report(path)
    for words in (
        "from 45.5 % to 48.5 % (+3.0 points",
        "exact McNemar p = 0.26",
        "the log-loss from 1.3712 to 1.3455 (−0.0257; p < 0.001)",
        "Drifted to something new: no known task explains the prompts (p = 0.002, level 0.05).",
        "0.0191 in log-loss and 8.1 points",
        "took 0.31 % of the run's time",
        "evaluate 42 s (24 %)",
        "python -m agent.run --task gsm8k --test 396",
        "no generator for smollm2-135m",
    ):
        assert words in page.text


def test_the_test_part_is_set_beside_chance(tmp_path: Path) -> None:
    record = made.record("one")
    record["test"]["chance"] = 0.25
    assert "Chance 25.0 %" in report(made.write_run(tmp_path, "one", record))[1].text
    assert "Chance" not in report(made.write_run(tmp_path, "free"))[1].text


def test_drift_bars_have_one_scale_for_all_runs_and_the_nearest_is_the_shortest(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    widths = [float(width) for width in re.findall(r'class="bar[^"]*" style="width: ([\d.]+)%"', html)]
    assert widths == pytest.approx(sorted(100 * effect for effect in made.KNOWN.values()))
    assert re.findall(r'class="bar( nearest)?"', html) == [" nearest"] + [""] * (len(widths) - 1)
    assert "from 0 for equal distributions to 1, a whole bar" in page.text


def test_the_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [
        name for name, _ in page.attributes if name in ("src", "href", "xlink:href", "action") or name.startswith("on")
    ]
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    calm, safe = report(made.write_run(tmp_path, "calm"))
    html, page = report(made.write_run(tmp_path, "hostile", made.hostile("hostile")))
    assert set(page.tags) == set(safe.tags)  # no element came in with the text
    assert {name for name, _ in page.attributes} == {name for name, _ in safe.attributes}
    assert "<script>alert('x')</script>{{ 7*7 }}" in page.text  # as text, and no template was run on it
    assert r"\x1b[31mred" in page.text
    assert r"\u202eright to left\u2066 zero\u200bwidth \x00" in page.text
    assert not [char for char in html if char != "\n" and wording.visible(char) != char]
    assert len(html) < len(calm) + 60_000  # 100 kB of a policy's text do not fill the page


@given(st.text(st.characters(), max_size=60))
def test_visible_text_has_nothing_hidden_and_keeps_the_rest(text: str) -> None:
    shown = wording.visible(text)
    assert wording.visible(shown) == shown
    shown.encode("utf-8")
    if text.isascii() and text.isprintable():
        assert shown == text


def test_an_unfinished_run_has_a_report_with_its_resume_command(tmp_path: Path) -> None:
    _, page = report(made.write_unfinished(tmp_path, "killed", keep=13, cut='{"seq'))
    assert "Not finished" in page.text
    assert "the last step seen was decide" in page.text
    assert f"python -m agent.run --resume killed --out {tmp_path}" in page.text


@pytest.mark.parametrize("keep", [0, 1, 2, 9, 10])
def test_a_run_killed_anywhere_has_a_report(tmp_path: Path, keep: int) -> None:
    _, page = report(made.write_unfinished(tmp_path, "killed", keep))
    assert ("The start has not been measured yet." in page.text) == (keep < 10)


@pytest.mark.parametrize("key", sorted(made.record("x")))
def test_a_key_that_an_older_version_lacks_leaves_the_report_whole(tmp_path: Path, key: str) -> None:
    record = made.older("old")
    record.pop(key, None)
    assert report(made.write_run(tmp_path, "old", record))[1].text


def test_paired_intervals_come_from_the_items(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    before, _ = report(path)
    made.write_all_items(path)
    after, page = report(path)
    assert (before.count('class="whisker"'), after.count('class="whisker"')) == (3, 5)
    assert re.search(r"95 % interval [+−]\d\.\d to [+−]\d\.\d; exact McNemar", page.text)


def test_the_chart_puts_a_better_loss_lower_and_a_better_accuracy_higher(tmp_path: Path) -> None:
    html, _ = report(made.write_run(tmp_path, "one"))
    accuracy, loss = (html.split("<figure>")[i].split("</figure>")[0] for i in (1, 2))
    for part, better in ((accuracy, "above"), (loss, "below")):
        base = float(re.findall(r'class="base"[^>]*y1="([\d.]+)"', part)[0])
        accepted = float(re.findall(r'class="accepted">.*?cy="([\d.]+)"', part, re.DOTALL)[0])
        rejected = float(re.findall(r'class="not-better">.*?cy="([\d.]+)"', part, re.DOTALL)[0])
        assert (accepted < base < rejected) == (better == "above")  # SVG's y axis points down
        assert (accepted > base > rejected) == (better == "below")


def test_a_hundred_attempts_still_make_a_chart(tmp_path: Path) -> None:
    record = made.record("long")
    record["trials"] = [record["trials"][1]] * 100
    html, _ = report(made.write_run(tmp_path, "long", record))
    assert html.count('<circle class="dot"') == 200


@given(low=st.floats(-1e3, 1e3), span=st.floats(0, 1e6))
def test_ticks_are_few_and_enclose_the_values(low: float, span: float) -> None:
    found = ticks(low, low + span, least=0.01)
    assert 3 <= len(found) <= 8
    assert found[0] <= low <= low + span <= found[-1]
    assert len({round((b - a) / (found[1] - found[0]), 3) for a, b in pairwise(found)}) == 1


def test_the_graph_shows_visits_and_taken_edges(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    assert re.findall(r">(\w+)</text>\s*<g class=\"badge\">.*?>(\d+)</text>", html) == [
        ("describe", "1"), ("detect", "1"), ("generate", "1"), ("align", "1"), ("choose", "1"), ("decide", "3"),
        ("apply", "2"), ("evaluate", "2"), ("conclude", "1"),
    ]  # fmt: skip
    assert sum(pair == ("class", "edge seen") for pair in page.attributes) == 10 + 2  # and the two at the ends


@pytest.mark.integration
def test_the_drawn_graph_is_the_real_graph() -> None:
    from agent.graph import make_graph  # imports torch

    real = make_graph().get_graph()
    assert set(NODES) == set(real.nodes) - {"__start__", "__end__"}
    drawn = {edge for edge in real.edges if "__" not in edge.source + edge.target}
    assert set(EDGES) == {(edge.source, edge.target) for edge in drawn}


def test_a_damaged_run_leaves_the_old_report(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    before, _ = report(path)
    (path / "run.json").write_text("{")
    with pytest.raises(InputError):
        write_report(path)
    assert (path / "report.html").read_text(encoding="utf-8") == before
    assert not list(path.glob(".report*"))


def test_what_to_do_next_follows_the_outcome(tmp_path: Path) -> None:
    def advice(**change: object) -> str:
        return " ".join(commands.next_step(read_run(path).model_copy(update=change), Path("runs")))

    path = made.write_run(tmp_path, "one")
    assert "The log-loss gain holds on test, but the accuracy gain could be chance" in advice()
    sure = made.record("x")["test"] | {"p_value": 0.01}
    assert "--adapter runs/one/adapter" in advice(test=TestPart.model_validate(sure))
    worse = sure | {"adapted": made.side(0.4, 1.4)}
    assert "Do not deploy" in advice(test=TestPart.model_validate(worse))
    surer = sure | {"loss_change": 3.2, "loss_p_value": 0.992}
    assert "Do not rely on it: the log-loss on test is worse" in advice(test=TestPart.model_validate(surer))
    assert "--reward 264" in advice(status="no_improvement")
    assert "--max-attempts 6" in advice(status="no_improvement", smallest_detectable=None)
    assert "--policy random" in advice(status="no_improvement", trials=read_run(path).trials[:1])
    assert "--resume one" in advice(status="unfinished")
    assert (
        wording.headline(Run(run_id="x", status="improved", test=TestPart.model_validate(worse)))
        == "Improved on reward, worse on test"
    )


def test_the_command_line_states_what_is_not_default() -> None:
    settings = {"temperature": 0.7, "top_k": 50, "openai_model": "1.5", "constrained": False, "base_url": None}
    config = {
        "task": "my file.jsonl",
        "max_attempts": 4,
        "seed": 3,
        "model_path": None,
        "out": "elsewhere",
        "offline": True,
        "policy_settings": settings,
    }
    line = commands.run_command_line(config)
    assert line == (
        "python -m agent.run --task 'my file.jsonl' --seed 3 --out elsewhere --offline "
        "--set policy_settings.temperature=0.7 --set 'policy_settings.openai_model=\"1.5\"' "
        "--set policy_settings.constrained=false"
    )
    arguments = run.parser().parse_args(shlex.split(line)[3:])
    again = make_config(None, run.options(arguments), arguments.assignments)
    config["task"] = str(Path("my file.jsonl").absolute())  # an input file is found from any folder
    assert again == RunConfig.model_validate(config)


def test_the_axis_of_accuracies_stays_within_its_bounds(tmp_path: Path) -> None:
    record = made.record("low")
    record["reward"]["baseline"] |= {"score": 0.0, "ci95": [0.0, 0.04]}
    record["trials"][2]["reward"] |= {"score": 1.0, "ci95": [0.96, 1.0]}
    html, _ = report(made.write_run(tmp_path, "low", record))
    axis = [int(text) for text in re.findall(r">(-?\d+) %</text>", html)]
    assert (min(axis), max(axis)) == (0, 100)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "—"),
        (0.0, "0.0 s"),
        (0.01, "< 0.1 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (3_720, "1 h 02 min"),
    ],
)
def test_durations(value: float | None, words: str) -> None:
    assert wording.duration(value) == words


def test_small_numbers_keep_their_sign_and_never_read_minus_zero() -> None:
    assert (wording.signed(-0.00001), wording.signed(-0.02), wording.points(0.031)) == (
        "0.0000",
        "−0.0200",
        "+3.1 points",
    )
    assert (wording.p_text(0.0004), wording.p_text(0.012), wording.p_text(0.262)) == (
        "p < 0.001",
        "p = 0.012",
        "p = 0.26",
    )


ASKED = [f"How many wings have {n} birds?" for n in range(260)]


def answered(path: Path, base: list[int], adapted: list[int]) -> Path:
    """Keep questions of two choices, the second of which is right, with what two models chose."""
    examples = [choice_example(text, [f"{n}", f"{2 * n}"], 1) for n, text in enumerate(ASKED[: len(base)], 1)]
    keep_questions(path, Splits([], examples[:2], examples))
    for name, chosen in (("test-baseline", base), ("test-adapted", adapted)):
        rows = zip(examples, chosen, strict=True)
        items = [Item(id=e.id, scores=(0, 0), choice=c, gold=1, correct=c == 1, loss=1.0) for e, c in rows]
        save_items(path / "items" / f"{name}.jsonl", items)
    return path


def test_every_question_can_be_read_with_its_answers_and_flips_come_first(tmp_path: Path) -> None:
    path = answered(made.write_run(tmp_path, "one"), base=[0, 1, 1, 0], adapted=[1, 0, 1, 0])
    html, page = report(path)
    assert "Of 4 test questions 1 became wrong, 1 became right, 1 stayed wrong, 1 stayed right." in page.text
    section = html.split("<h2>Questions and answers</h2>")[1].split("</section>")[0]
    first, second = (re.sub(r"<[^>]+>|\s+", " ", part) for part in section.split("</details>")[:2])
    assert [text in first for text in ASKED[:4]] == [True, True, False, False]
    assert [text in second for text in ASKED[:4]] == [False, False, True, True]
    told = " ".join(first.split())
    assert f"{ASKED[0]} became right 1 deployed model 2 right adapted model" in told
    assert f"{ASKED[1]} became wrong 2 adapted model 4 right deployed model" in told


def test_many_questions_are_capped_and_the_rest_is_named(tmp_path: Path) -> None:
    path = answered(made.write_run(tmp_path, "one"), base=[0] * 260, adapted=[1] * 130 + [0] * 130)
    html, page = report(path)
    assert html.count('<article class="asked">') == 2 * SHOWN
    assert page.text.count("The other 30 are in the run's folder: items/questions.jsonl") == 2
    kept = (path / "items" / "questions.jsonl").read_text(encoding="utf-8")
    assert all(kept.count(json.dumps(text)) == 1 + (text in ASKED[:2]) for text in ASKED)


def test_a_run_that_adopted_nothing_shows_what_the_deployed_model_answered(tmp_path: Path) -> None:
    record = made.record("one") | {"status": "no_improvement"}
    path = answered(made.write_run(tmp_path, "one", record), base=[0, 1], adapted=[0, 1])
    _, page = report(path)
    assert "Of 2 test questions 1 were answered right, 1 were answered wrong." in page.text
    assert f"{ASKED[0]} wrong 1 chosen 2 right" in page.text


def test_answers_in_writing_are_shown_as_they_were_written(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    example = Example(id="q", question="Who wrote it?", gold_text="Ada", context="A letter of 1843.")
    keep_questions(path, Splits([], [], [example]))
    for name, text in (("test-baseline", "Bob, I think"), ("test-adapted", "")):
        save_items(path / "items" / f"{name}.jsonl", [Item(id="q", correct=False, loss=1.0, text=text)])
    assert (
        "A letter of 1843. Who wrote it? stayed wrong Right answer Ada Deployed model Bob, I think "
        "Adapted model (nothing)" in report(path)[1].text
    )


@pytest.mark.parametrize(
    "damage", [b"{", b"[]\n", b'{"id": 3}\n', b"\xff\n", b'{"id": "x", "question": {}}\n', b"[" * 9999]
)
def test_damaged_questions_leave_the_report_whole(tmp_path: Path, damage: bytes) -> None:
    path = answered(made.write_run(tmp_path, "one"), base=[0], adapted=[1])
    (path / "items" / "questions.jsonl").write_bytes(damage)
    assert "Questions and answers" not in report(path)[1].text


def test_a_hostile_question_is_text(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    calm, _ = report(answered(path, base=[0], adapted=[1]))
    keep_questions(path, Splits([], [], [choice_example(made.HOSTILE, [made.HOSTILE, "b"], 1)]))
    kept = (path / "items" / "questions.jsonl").read_text(encoding="utf-8")
    for name in ("test-baseline", "test-adapted"):
        file = path / "items" / f"{name}.jsonl"
        file.write_text(re.sub(r'"id":"\w+"', f'"id":"{json.loads(kept)["id"]}"', file.read_text()))
    html, page = report(path)
    assert set(page.tags) == set(Page(calm).tags)
    assert "<script>alert('x')</script>{{ 7*7 }}" in page.text
    assert not [char for char in html if char != "\n" and wording.visible(char) != char]


PHONE = 390 - 2 * 12 - 2 * 17
"""Pixels inside a card on a phone: the page's and the card's padding and border are taken off."""


def test_no_label_of_a_picture_is_too_small_to_read_on_a_phone(tmp_path: Path) -> None:
    html, _ = report(answered(made.write_run(tmp_path, "one"), base=[0], adapted=[1]))
    style = html.split("<style>")[1].split("</style>")[0]
    sizes = [int(size) for size in re.findall(r"\.(?:axis|word|node text|badge text) \{[^}]*font-size: (\d+)px", style)]
    assert len(sizes) == 4
    for frame, view in re.findall(
        r'<(div class="wide"|figure)>(?:\s*<figcaption>[^<]*</figcaption>)?\s*<svg viewBox="0 0 (\d+)', html
    ):
        name = r"\.wide" if "wide" in frame else r"\.charts"
        least = int(re.findall(name + r" svg \{ min-width: (\d+)px", style)[0])
        smallest = min(sizes if "wide" not in frame else sizes[-2:])
        assert smallest * max(PHONE, least) / int(view) >= 10
        assert re.search(name + r"(?: figure)? \{[^}]*overflow-x: auto", style)


def test_no_cell_of_a_table_breaks_letter_by_letter(tmp_path: Path) -> None:
    html, _ = report(made.write_run(tmp_path, "one", made.started_run("one")))
    style = html.split("<style>")[1].split("</style>")[0]
    breaking = [
        s.strip() for rule in re.findall(r"([^{}]*)\{[^}]*overflow-wrap: anywhere", style) for s in rule.split(",")
    ]
    assert "td" not in breaking
    assert "td.text" in breaking
    assert re.search(r"td\.text \{ min-width: \d{3}px", style)
    assert html.count("<table>") == html.count('<div class="scroll"><table>')

"""The report's questions: each with its answers, capped, and only text."""

import json
import re
from pathlib import Path

import pytest

from agent.record.page.questions import SHOWN, keep_questions
from cao.encodings import visible
from cao.tasks.base import choice_example
from cao.tasks.splits import Splits
from cao.types import Example, Item
from tests.agent import run_folders as made
from tests.agent.record.report_pages import ASKED, Page, answered, report
from tools.evaluate import save_items


def test_every_question_can_be_read_with_its_answers_and_flips_come_first(tmp_path: Path) -> None:
    path = answered(made.write_run(tmp_path, "one"), base=[0, 1, 1, 0], adapted=[1, 0, 1, 0])
    html, page = report(path)
    assert "Of 4 test questions 1 became wrong, 1 became right, 1 stayed wrong, 1 stayed right." in page.text
    section = html.split("<h2>Questions and answers</h2>")[1].split("</section>")[0]
    cards = [" ".join(re.sub(r"<[^>]+>", " ", card).split()) for card in section.split('<article class="asked"')[1:]]
    assert [next(n for n, text in enumerate(ASKED) if text in card) for card in cards] == [0, 1, 2, 3]
    assert f"{ASKED[0]} became right Deployed model ✗ wrong 1 Adapted model ✓ right 2 1 2 right" in cards[0]
    assert f"{ASKED[1]} became wrong Deployed model ✓ right 4 Adapted model ✗ wrong 2 2 4 right" in cards[1]
    assert "flipped 2 all 4 became wrong 1 became right 1 stayed wrong 1 stayed right 1" in page.text


def test_many_questions_are_capped_and_the_rest_is_named(tmp_path: Path) -> None:
    path = answered(made.write_run(tmp_path, "one"), base=[0] * 260, adapted=[1] * 130 + [0] * 130)
    html, page = report(path)
    assert html.count('<article class="asked"') == 2 * SHOWN
    assert page.text.count("The other 60 are in the run's folder: items/questions.jsonl") == 1
    kept = (path / "items" / "questions.jsonl").read_text(encoding="utf-8")
    assert all(kept.count(json.dumps(text)) == 1 + (text in ASKED[:2]) for text in ASKED)


def test_a_run_that_adopted_nothing_shows_what_the_deployed_model_answered(tmp_path: Path) -> None:
    record = made.record("one") | {"status": "no_improvement"}
    path = answered(made.write_run(tmp_path, "one", record), base=[0, 1], adapted=[0, 1])
    _, page = report(path)
    assert "Of 2 test questions 1 were answered right, 1 were answered wrong." in page.text
    assert f"{ASKED[0]} wrong Deployed model ✗ wrong 1 1 2 right" in page.text
    assert "Adapted model" not in page.text


def test_answers_in_writing_are_shown_as_they_were_written(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    example = Example(id="q", question="Who wrote it?", gold_text="Ada", context="A letter of 1843.")
    keep_questions(path, Splits([], [], [example]))
    for name, text in (("test-baseline", "Bob, I think"), ("test-adapted", "")):
        save_items(path / "items" / f"{name}.jsonl", [Item(id="q", correct=False, loss=1.0, text=text)])
    assert (
        "A letter of 1843. Who wrote it? stayed wrong Deployed model ✗ wrong Bob, I think "
        "Adapted model ✗ wrong (nothing) Right answer: Ada" in report(path)[1].text
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
    assert not [char for char in html if char != "\n" and visible(char) != char]

"""Rows over a pool of adapters, by hand: who answers, and by whose labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cao.types import AnswerRule, ChoiceLikelihood, Example, Item
from eval.generation import pooled, rules
from eval.generation.cells import Cells
from eval.generation.rules import Judge
from eval.generation.sheets import Sheet
from eval.generation.workshop import Recipe

ASKED = {
    part: [Example(id=f"{part}{i}", question="q", choices=("a", "b"), answer=i % 2) for i in range(40)]
    for part in ("support", "reward", "test")
}


def scored(examples: Sequence[Example], right: int, gap: float) -> list[Item]:
    """Answers of an adapter that is right on the first questions, by a margin."""
    found = []
    for i, example in enumerate(examples):
        favoured = example.answer if i < right else 1 - example.answer
        choices = tuple(ChoiceLikelihood(-1.0 if j == favoured else -1.0 - gap, 1, 1) for j in (0, 1))
        gold = -choices[example.answer].logprob
        item = Item(id=example.id, gold=example.answer, correct=False, loss=0.0, gold_nll=gold, choices=choices)
        found.append(item)
    return found


GIVEN = {  # kind → (right on reward, right on test, margin in nats)
    "generated": (30, 24, 1.0),
    "union": (36, 20, 2.5),
    "nearest": (22, 34, 3.0),
}


class ByHand(Cells):
    """Cells whose adapters answer as ``GIVEN`` says."""

    def __init__(self, folder: Path, lm: Any) -> None:
        super().__init__(folder, lm, lambda _: None)

    def read(self, recipe: Recipe, sheet: Sheet) -> list[Item]:
        reward, test, gap = GIVEN[recipe.key]
        right = {"reward": reward, "test": test, "support": 20}[sheet.part]
        return scored(ASKED[sheet.part], right, gap)


@pytest.fixture
def found(tmp_path: Path, tiny_lm: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for module in (pooled, rules):
        monkeypatch.setattr(module, "questions", lambda sheet: ASKED[sheet.part])
    monkeypatch.setattr(Judge, "rules", lambda *_: [AnswerRule()])
    judge = Judge(Sheet("arc_easy", "reward", 40), Sheet("arc_easy", "test", 40))
    recipes = {kind: [Recipe(kind, None)] for kind in GIVEN}
    return pooled.pooled(ByHand(tmp_path, tiny_lm), judge, recipes, 1, pooled.POOL_KINDS)


def test_labels_of_reward_choose_one_and_those_of_test_say_what_there_was(found: dict[str, Any]) -> None:
    assert found["best by reward"].best.accuracy == 20 / 40  # union, the best on reward
    assert found["best by test"].best.accuracy == 34 / 40  # nearest


def test_without_labels_the_surest_member_answers(found: dict[str, Any]) -> None:
    assert found["TTS by max_confidence"].best.accuracy == 34 / 40  # nearest is the surest everywhere
    assert found["TTS by sum_logprobs"].best.accuracy == 24 / 40  # from there on 1 + 2.5 nats outweigh its 3
    assert found["TTS by sum_logprobs"].nll == pytest.approx(found["TTS by max_confidence"].nll)


def test_a_pool_that_lacks_a_member_has_no_rows(tmp_path: Path, tiny_lm: Any) -> None:
    judge = Judge(Sheet("arc_easy", "reward", 4), Sheet("arc_easy", "test", 4))
    recipes = {"generated": [Recipe("generated", None)], "union": [Recipe("union", None)]}
    assert pooled.pooled(ByHand(tmp_path, tiny_lm), judge, recipes, 1, pooled.POOL_KINDS) == {}

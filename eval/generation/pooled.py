"""Rows over a pool: the generated adapter, Union-Train's and the nearest checkpoint answer, or one of them is chosen.

What the pool is worth at most, and how much of that is had with labels and without: TTS combines the members' answers
and sees no label, the reward part's labels choose one of them for a task, and the test part's say what there was.

Source: CAO-LLM G.3 (combining); the pool of these three is this project's.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from cao.strategies.tts import POOLED
from cao.types import AnswerRule, Item
from eval.generation.bootstrap import Answers
from eval.generation.cells import Cells
from eval.generation.rules import Judge, Reading
from eval.generation.sheets import Sheet, questions
from eval.generation.workshop import Recipe
from tools.evaluate import together
from tools.evaluate.temperature import losses

POOL = ("generated", "union", "nearest")

TOGETHER = {f"TTS by {method}": method for method in POOLED}
"""Kind → the method that combines the members' scores."""

CHOSEN = {"best by reward": "reward", "best by test": "test"}
"""Kind → the part whose labels choose one member, by its log-loss."""

POOL_KINDS = {
    **{kind: f"TTS over generated, union and nearest: no label, `{method}`" for kind, method in TOGETHER.items()},
    "best by reward": "of generated, union and nearest the one of the lowest log-loss on the reward questions",
    "best by test": "the same chosen on the questions that are reported: what a choice could be worth, not a result",
}
"""Kind → what it is."""


def pooled(
    cells: Cells, judge: Judge, recipes: Mapping[str, Sequence[Recipe]], seeds: int, kinds: Collection[str]
) -> dict[str, Answers]:
    """Return what each wanted kind of ``POOL_KINDS`` answers; nothing where a member of the pool is not there.

    Args:
        cells: where the members are scored.
        judge: the task's sheets.
        recipes: kind → a recipe for each seed, or a single one.
        seeds: how many there are.
        kinds: what is wanted.
    """
    wanted = [kind for kind in POOL_KINDS if kind in kinds]
    if not wanted or any(kind not in recipes for kind in POOL):
        return {}
    rules = judge.rules(cells.lm.profile.answer_style)
    each = [[judge.reading(cells, recipe) for recipe in recipes[kind]] for kind in POOL]
    pools = [[readings[seed % len(readings)] for readings in each] for seed in range(seeds)]
    return {kind: judge.graded([_read_by(kind, judge, members, rules) for members in pools], rules) for kind in wanted}


def _read_by(kind: str, judge: Judge, members: Sequence[Reading], rules: Sequence[AnswerRule]) -> Reading:
    """Return a kind's answers: those of all members together, or those of the one that labels choose."""
    if kind in TOGETHER:
        return _combined(members, TOGETHER[kind])
    sheet = judge.reward if CHOSEN[kind] == "reward" else judge.test
    return min(members, key=lambda read: float(np.mean(losses(read(sheet, judge.own_rule(read, rules))))))


def _combined(members: Sequence[Reading], method: str) -> Reading:
    def read(sheet: Sheet, rule: AnswerRule) -> list[Item]:
        each = zip(*(member(sheet, rule) for member in members), strict=True)
        return [together(asked, answers, method) for asked, answers in zip(questions(sheet), each, strict=True)]

    return read

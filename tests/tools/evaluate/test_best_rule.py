"""Which answer rule a model stands for: as accurate by it, surely better than guessing, and of the lowest loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.types import AnswerRule, Item
from tests.tools.evaluate.answered import item, scaled
from tools.evaluate.answer_rule import RULES
from tools.evaluate.statistics import best_rule

DEFAULT, SUM, PMI = RULES[:3]
GOLD = [i % 4 for i in range(40)]


def answers(right: int, *, sure: float = 2.0, of: int = 40) -> list[Item]:
    """Return answers to questions of four choices, the first ones right; the chosen one is ahead by ``sure``."""
    chosen = [GOLD[i] if i < right else (GOLD[i] + 1) % 4 for i in range(of)]
    # spread evenly, so that both halves, by which temperatures are fitted, have as many right ones
    order = np.random.default_rng(0).permutation(of)
    return [item(f"q{i}", [sure * (k == chosen[i]) for k in range(4)], GOLD[i]) for i in order]


def by(rules: dict[AnswerRule, list[Item]]) -> AnswerRule:
    """Return the best rule; questions are in one order."""
    ids = [each.id for each in rules[DEFAULT]]
    return best_rule({rule: sorted(items, key=lambda each: ids.index(each.id)) for rule, items in rules.items()})


def test_the_rule_of_the_lowest_loss_is_taken() -> None:
    assert by({DEFAULT: answers(20), SUM: answers(26), PMI: answers(32)}) == PMI
    assert by({DEFAULT: answers(20), SUM: answers(32), PMI: answers(26)}) == SUM
    assert by({DEFAULT: answers(32), SUM: answers(20), PMI: answers(26)}) == DEFAULT


def test_a_rule_by_which_fewer_are_right_is_not() -> None:
    """By the other rule one fewer is right, and each right one is as sure as it is not by the default."""
    rng = np.random.default_rng(1)
    unsure = [item(f"q{i}", [0.1 * rng.random() + (k == GOLD[i]) for k in range(4)], GOLD[i]) for i in range(40)]
    plain = [
        item(each.id, [s * (0.2 if i % 2 else 1) for s in each.scores], each.gold) for i, each in enumerate(unsure)
    ]
    sure = [*unsure[:-1], item("q39", [0.0, 0.0, 0.3, 0.0], GOLD[39])]
    assert sum(each.correct for each in sure) == sum(each.correct for each in plain) - 1
    assert by({DEFAULT: plain, SUM: sure}) == DEFAULT
    assert by({DEFAULT: plain, SUM: unsure}) == SUM


def test_a_rule_by_which_the_model_may_be_guessing_is_not() -> None:
    """Ten of forty right is guessing of four; eleven is within a standard error of it."""
    assert by({DEFAULT: answers(8), SUM: answers(11)}) == DEFAULT
    assert by({DEFAULT: answers(8), SUM: answers(24)}) == SUM


def test_a_model_that_guesses_keeps_the_default_rule() -> None:
    """Scores that know nothing: in one of fifty sets another rule replaces the first one."""
    changed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        gold, shared = rng.integers(4, size=96), rng.normal(size=(96, 4))
        drawn = {rule: shared + 0.7 * rng.normal(size=(96, 4)) for rule in RULES}
        made = {rule: [item(f"q{i}", list(s[i]), int(gold[i])) for i in range(96)] for rule, s in drawn.items()}
        changed += best_rule(made) != DEFAULT
    assert changed <= 6


@pytest.mark.parametrize("of", [1, 4])
def test_few_questions_say_nothing(of: int) -> None:
    assert by({DEFAULT: answers(0, of=of), SUM: answers(of, of=of)}) == DEFAULT


def test_answers_without_choices_say_nothing() -> None:
    written = [Item(id=f"q{i}", correct=True, loss=0.1) for i in range(40)]
    worse = [each.model_copy(update={"loss": 1.0}) for each in written]
    assert best_rule({DEFAULT: worse, SUM: written}) == DEFAULT


def test_what_comes_first_stands_where_the_default_is_not_there() -> None:
    assert best_rule({SUM: answers(20), PMI: answers(20)}) == SUM


def test_a_first_rule_that_was_given_up_early_is_still_the_one_to_beat() -> None:
    """On the first 20 questions more are right by it; on all 40 the other rule is better than guessing."""
    made = answers(30)
    right = sum(each.correct for each in made[:20])
    worse = [item(each.id, [0.0 if k == each.gold else 1.0 for k in range(4)], each.gold) for each in made[:20]]
    better = [item(each.id, [2.0 * (k == each.gold) for k in range(4)], each.gold) for each in made[:20]]
    assert right < 20
    assert best_rule({DEFAULT: better, SUM: made}) == DEFAULT
    assert best_rule({DEFAULT: worse, SUM: made}) == SUM
    assert best_rule({DEFAULT: worse, SUM: answers(11)}) == DEFAULT


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_the_scale_of_the_scores_chooses_no_rule(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.integers(4, size=24)
    knows = {rule: 2 * rng.random() for rule in RULES}

    def scores(rule: AnswerRule, i: int) -> list[float]:
        return [float(rng.normal() + knows[rule] * (k == gold[i])) for k in range(4)]

    made = {rule: [item(f"q{i}", scores(rule, i), int(gold[i])) for i in range(24)] for rule in RULES}
    longer = {rule: scaled(items, factor) if rule == SUM else items for rule, items in made.items()}
    assert best_rule(longer) == best_rule(made)

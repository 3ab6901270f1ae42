"""Each adapter's best answer rule: chosen on the reward part, reported on test."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cao.model.language_model import LanguageModel
from cao.types import AnswerRule, ChoiceLikelihood, Item
from eval.generation.cells import Cells
from eval.generation.rules import Judge
from eval.generation.sheets import Sheet, questions
from eval.generation.workshop import BASE, Recipe
from tools.evaluate import save_items
from tools.evaluate.answer_rule import RULES

REWARD, TEST = Sheet("piqa", "reward", 60), Sheet("piqa", "test", 40)
SUM = AnswerRule(length="none")


def written(cells: Cells, sheet: Sheet, by: Sequence[str]) -> None:
    """Write the base model's answers: the gold choice is the best by the sum, by the characters, or by both."""
    items = []
    for number, example in enumerate(questions(sheet)):
        likely = {"sum": ((-10.0, 5), (-12.0, 24)), "char": ((-12.0, 24), (-10.0, 5)), "both": ((-1.0, 9), (-9.0, 9))}
        gold, wrong = (ChoiceLikelihood(nats, 3, chars) for nats, chars in likely[by[number % len(by)]])
        choices = tuple(gold if i == example.answer else wrong for i in range(len(example.choices)))
        item = Item(id=example.id, gold=example.answer, correct=True, loss=0.0, gold_nll=5.0, choices=choices)
        items.append(item.model_copy(update={"scores": (0.0,) * len(choices)}))
    path = cells.folder / sheet.folder / sheet.task / "base.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_items(path, items)


@pytest.fixture
def cells(tiny_lm: LanguageModel, tmp_path: Path) -> Cells:
    return Cells(tmp_path, tiny_lm, lambda _: None)


class Unprimed(Judge):
    """A judge whose rules take no prior off, so that no model is asked."""

    def rules(self, style: str) -> list[AnswerRule]:
        return [rule for rule in super().rules(style) if rule.prior == "none"]


def test_the_rule_is_chosen_on_reward_whatever_the_test_part_says(cells: Cells) -> None:
    judge, base = Unprimed(REWARD, TEST), Recipe(BASE)
    written(cells, REWARD, ["sum", "sum", "sum", "both"])
    written(cells, TEST, ["char", "char", "char", "both"])
    assert judge.best(cells, base) == SUM
    answers = judge.judged(cells, [base])
    assert (answers.default.accuracy, answers.best.accuracy) == (1.0, 0.25)
    assert answers.rules == (SUM,)
    written(cells, REWARD, ["char", "both"])
    assert judge.best(cells, base) == AnswerRule()
    assert judge.judged(cells, [base]).best.accuracy == 1.0


def test_a_task_takes_the_rules_that_it_has_something_for() -> None:
    def priors(task: str) -> list[str]:
        sheets = Judge(Sheet(task, "reward", 48), Sheet(task, "test", 48))
        return [rule.prior for rule in sheets.rules("text")]

    assert priors("piqa") == ["none", "none", "choice", "choice"]
    assert priors("boolq") == [rule.prior for rule in RULES]  # the same two words in every question
    assert priors("winogrande") == ["none", "none"]  # what follows the choice is scored


def test_what_is_asked_is_what_every_rule_takes() -> None:
    judge = Judge(Sheet("boolq", "reward", 48), Sheet("boolq", "test", 48))
    asks = judge.asks("text")
    assert [(ask.sheet, ask.prior) for ask in asks] == [
        (judge.reward, True),
        (judge.test, True),
        (Sheet("boolq", "support", 32), False),
    ]
    judge = Judge(Sheet("winogrande", "reward", 48), Sheet("winogrande", "test", 48))
    assert not any(ask.prior for ask in judge.asks("text"))


def test_rules_with_a_prior_are_answered_with_the_model(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    judge, cells = (
        Judge(Sheet("boolq", "reward", 8), Sheet("boolq", "test", 8)),
        Cells(tmp_path, tiny_lm, lambda _: None),
    )
    base = Recipe(BASE)
    cells.score(cells.missing([(base, ask) for ask in judge.asks("text")]))
    answered = {rule: judge.answers(cells, base, judge.test, rule) for rule in judge.rules("text")}
    scores = {tuple(item.scores for item in items) for items in answered.values()}
    assert len(scores) == len(RULES)
    assert len({tuple(item.gold_nll for item in items) for items in answered.values()}) == 1
    assert judge.best(cells, base) in answered

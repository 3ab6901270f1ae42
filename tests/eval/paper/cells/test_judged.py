"""How a cell's answer rule is chosen."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from cao.types import AdaptedModel, AnswerRule, Item
from eval.paper.cells import kept
from eval.paper.cells.models import Candidate

PLAIN, CALIBRATED = AnswerRule(), AnswerRule(prior="batch", strength=1.0)


def items(margins: Sequence[float]) -> list[Item]:
    """Answers to questions with two choices, the first of which is right."""
    return [
        Item(
            id=str(i),
            scores=(margin, 0.0),
            choice=int(margin < 0),
            gold=0,
            correct=margin > 0,
            loss=math.log1p(math.exp(-margin)),
            margin=margin,
        )
        for i, margin in enumerate(margins)
    ]


ANSWERS = {
    PLAIN: items([0.1, 0.1, -0.5, -3.0] * 8),
    CALIBRATED: items([-0.1, 1.0, -0.1, -0.1] * 8),
}
"""Right more often by the first, of lower loss by the second."""


@pytest.mark.parametrize(("fitted", "rule"), [(False, PLAIN), (True, CALIBRATED)])
def test_what_is_fitted_takes_the_lowest_loss_and_others_their_own_rule(
    monkeypatch: pytest.MonkeyPatch, fitted: bool, rule: AnswerRule
) -> None:
    def measured(_: object, model: AdaptedModel, *__: object) -> Any:
        return SimpleNamespace(items=ANSWERS[model.answer_rule])

    monkeypatch.setattr(kept, "measure_part", measured)
    model = AdaptedModel()
    made = Candidate(model, (PLAIN, CALIBRATED), lambda: model, fitted=fitted)
    bench: Any = None
    assert kept.judged(bench, made)[0] == rule

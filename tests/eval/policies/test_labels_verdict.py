"""When the table of labels says that labels win, by hand."""

from pathlib import Path

import pytest

from cao.types import AnswerRule
from eval.policies.labelled_lora import Fitted, Recipe
from eval.policies.labels_page import write_page
from eval.policies.labels_results import (
    BASE,
    LORA,
    ROWS,
    START,
    Cell,
    LabelledSituation,
    LabelsPage,
    LabelsResult,
    Score,
    page_of,
)


def page(tasks: str, gains: list[float]) -> LabelsPage:
    """Every row has 50 % and 1 nat; LoRA from the base model is right more often by its gain, and 1 − gain nats."""
    names = {f"{task}-0": gain for task, gain in zip(tasks, gains, strict=True)}

    def cell(row: str, gain: float) -> Cell:
        gained = gain if row == LORA[BASE] else 0.0
        score = Score(accuracy=0.5 + gained, loss=1 - gained, n=100)
        return Cell(rule=AnswerRule(), judged=score, test=score)

    fitted = Fitted(
        rate=0.001,
        epochs=0,
        questions=50,
        held_back=17,
        losses={"0.001": (1.0,)},
        adapter="none",
        rehearsal="none",
        seconds=1.0,
    )
    known = LabelledSituation(
        fit=50, judge=50, start=BASE, run_start=BASE, trainings={side: fitted for side in (BASE, START)}
    )
    return page_of(
        LabelsResult(
            **dict.fromkeys(("command", "table", "measured", "model", "model_sha256", "device", "dtype"), "none"),
            **dict.fromkeys(("support", "reward", "limit"), 100),
            recipe=Recipe(),
            tasks=tuple(tasks),
            seeds=(0,),
            situations=dict.fromkeys(names, known),
            cells={row: {name: cell(row, gain) for name, gain in names.items()} for row in ROWS},
            control=LORA[BASE],
        )
    )


def test_six_tasks_that_all_gain_are_sure_and_five_are_not() -> None:
    """Of n tasks that agree p is 2 / 2ⁿ: 1/32 and 1/16."""
    six, five = page("abcdef", [0.1] * 6), page("abcde", [0.1] * 5)
    for found, p, wins in ((six, 1 / 32, True), (five, 1 / 16, False)):
        change = found.test[LORA[BASE]].against_start
        assert change is not None
        assert (change.accuracy_p, change.loss_p, found.wins) == (p, p, wins)
        assert change.accuracy.mean == pytest.approx(0.1)
        assert change.loss.ci95[1] < 0  # the interval alone would be sure of both


def test_the_page_says_it(tmp_path: Path) -> None:
    for tasks, told in (("abcdef", "it wins over the start"), ("abcde", "it does not win over the start")):
        made = page(tasks, [0.1] * len(tasks))
        result = LabelsResult.model_validate({name: getattr(made, name) for name in LabelsResult.model_fields})
        text = write_page(result, tmp_path / tasks).read_text()
        assert told in text
        assert f"+10.0 (+10.0 to +10.0) points (p = {2 / 2 ** len(tasks):.3g})" in text

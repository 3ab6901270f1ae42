"""What the table of labels holds, from the measurement to the page; ``labels.json`` is this and nothing else."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cao.types import AnswerRule, Record
from eval.generation.bootstrap import interval
from eval.measured import Measured
from eval.policies.labelled_lora import Fitted, Recipe
from eval.policies.results import Mean
from eval.policies.verdicts import LEVEL, Picks, sign_flips

BASE, START = "base", "start"
CALIBRATE = {side: f"{side} + Calibrate" for side in (BASE, START)}
LORA = {side: f"LoRA from {side}" for side in (BASE, START)}
BOTH = {side: f"LoRA from {side} + Calibrate" for side in (BASE, START)}

ROWS = {
    BASE: "the deployed model",
    START: "of the deployed model and the adapters that a run makes without labels, the one of the lowest log-loss on "
    "the half to fit",
    CALIBRATE[BASE]: "the deployed model under the point of Calibrate's grid of the lowest log-loss on the half to fit",
    CALIBRATE[START]: "the start under such a point",
    LORA[BASE]: "a fresh LoRA trained on the labels of the half to fit",
    LORA[START]: "the start's adapter trained on from there on the same labels; where the start is the deployed model, "
    "the row above",
    BOTH[BASE]: "a fresh LoRA trained so, under the point of Calibrate's grid of the lowest log-loss on the questions "
    "held back, as the adapter answers them that was trained without them",
    BOTH[START]: "the start's adapter trained so, under such a point",
}
"""Row → what it is."""

VARIANTS = (CALIBRATE[BASE], CALIBRATE[START], LORA[BASE], LORA[START], BOTH[BASE], BOTH[START])
"""Rows that a label was read for; the one of the lowest log-loss on the half to judge is the control."""

TESTED = (BASE, START, CALIBRATE[START], LORA[BASE], LORA[START])
"""Rows that answer the test part, besides the control."""


class Score(Record):
    """A model's accuracy and its log-loss at its own temperature, nats, on n questions."""

    accuracy: float
    loss: float
    n: int


class Cell(Record):
    """One row in one situation.

    Attributes:
        rule: by which it answers.
        judged: on the half to judge.
        test: on the test part, where it answers that.
    """

    rule: AnswerRule
    judged: Score
    test: Score | None = None


class LabelledSituation(Record):
    """What is known of one situation.

    Attributes:
        fit: questions whose labels are read.
        judge: questions that judge.
        start: what training goes on from: ``base``, ``generated`` or ``aligned``.
        run_start: what a run starts from, by all labels of the reward part.
        trainings: ``base`` and ``start`` → the LoRA training from there.
    """

    fit: int
    judge: int
    start: str
    run_start: str
    trainings: dict[str, Fitted]


class LabelsResult(Measured):
    """What was measured.

    Attributes:
        support: prompts.
        reward: questions, half of them to fit.
        limit: test questions, at most.
        recipe: how LoRA is trained.
        tasks: names.
        seeds: each chose other questions.
        situations: ``TASK-SEED`` → what is known of it.
        cells: row → situation → what came of it.
        control: the row of ``VARIANTS`` that the half to judge chose.
    """

    support: int
    reward: int
    limit: int
    recipe: Recipe
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    situations: dict[str, LabelledSituation]
    cells: dict[str, dict[str, Cell]]
    control: str


class Change(Record):
    """A row against another in the same situations.

    Attributes:
        accuracy: mean difference.
        loss: mean difference, nats; below 0 is better.
        accuracy_p: two-sided, by flipping the signs of the tasks' mean differences.
        loss_p: as well.
    """

    accuracy: Mean
    loss: Mean
    accuracy_p: float
    loss_p: float


class RowVerdict(Record):
    """What a row came to on one set of questions, means over tasks and seeds.

    Attributes:
        accuracy: mean.
        loss: mean, nats.
        against_base: its changes, None for the row itself.
        against_start: its changes, None for the row itself.
    """

    accuracy: Mean
    loss: Mean
    against_base: Change | None
    against_start: Change | None


class LabelsPage(LabelsResult):
    """What was measured, and what it says: the content of ``labels.json``.

    Attributes:
        judged: row → its verdict on the half to judge.
        test: row → its verdict on the test part.
        wins: whether the control's log-loss is below the start's on the test part, by its whole interval and its
            p-value; on the half to judge, which chose it among several, equals would win four times as often.
    """

    judged: dict[str, RowVerdict]
    test: dict[str, RowVerdict]
    wins: bool


def control_of(cells: dict[str, dict[str, Cell]]) -> str:
    """Return the variant of the lowest mean log-loss on the half to judge, of equal ones the first."""
    means = {row: float(np.mean([cell.judged.loss for cell in cells[row].values()])) for row in VARIANTS}
    return min(VARIANTS, key=lambda row: means[row])


def page_of(result: LabelsResult) -> LabelsPage:
    """Return a measurement with what it says."""
    judged = _verdicts(result, list(result.cells), lambda cell: cell.judged)
    tested = [row for row, cells in result.cells.items() if all(cell.test for cell in cells.values())]
    test = _verdicts(result, tested, lambda cell: cell.test or cell.judged)
    against = test[result.control].against_start
    assert against is not None  # the start is no variant
    wins = against.loss.ci95[1] < 0 and against.loss_p <= LEVEL
    return LabelsPage(**dict(result), judged=judged, test=test, wins=wins)


def _verdicts(result: LabelsResult, rows: Sequence[str], score: Callable[[Cell], Score]) -> dict[str, RowVerdict]:
    """Return row → verdict; every row is drawn with the same tasks and seeds, so that pairs stay pairs."""
    picks = Picks(len(result.tasks), len(result.seeds))
    names = [[f"{task}-{seed}" for seed in result.seeds] for task in result.tasks]

    def table(row: str, value: Callable[[Score], float]) -> NDArray[np.float64]:
        found = [[value(score(result.cells[row][name])) for name in several] for several in names]
        return np.array(found, dtype=np.float64)

    def mean(values: NDArray[np.float64]) -> Mean:
        return Mean(mean=float(values.mean()), ci95=interval(picks.means(values)))

    def change(row: str, other: str) -> Change | None:
        if row == other:
            return None
        right, loss = (table(row, value) - table(other, value) for value in (_accuracy, _loss))
        p = [sign_flips(values.mean(1)) for values in (right, loss)]
        return Change(accuracy=mean(right), loss=mean(loss), accuracy_p=p[0], loss_p=p[1])

    return {
        row: RowVerdict(
            accuracy=mean(table(row, _accuracy)),
            loss=mean(table(row, _loss)),
            against_base=change(row, BASE),
            against_start=change(row, START),
        )
        for row in rows
    }


def _accuracy(score: Score) -> float:
    return score.accuracy


def _loss(score: Score) -> float:
    return score.loss

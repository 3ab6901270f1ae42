"""What answers say of rows: means over tasks, differences with intervals, p-values corrected for their number.

Every interval is a paired bootstrap over questions and seeds; the tasks are those of the table, and are not drawn.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eval.baselines.baseline import Spent
from eval.generation.bootstrap import Array, interval
from eval.generation.scores import TaskAnswers
from eval.paper.results import Choice, Mean, Versus

Answers = Mapping[str, TaskAnswers]
"""Task → what every row that it has answers."""


def mean_of(row: str, answers: Answers) -> Mean | None:
    """Return a row's mean over the tasks that have it, None where none has.

    Args:
        row: its name.
        answers: of the tasks of one kind.
    """
    having = {task: one for task, one in answers.items() if row in one.answers}
    if not having:
        return None
    drawn = np.mean([one.accuracy(row) for one in having.values()], axis=0)
    each = [one.answers[row].best.accuracy for one in having.values()]
    return Mean(tasks=tuple(having), accuracy=float(np.mean(each)), ci95=interval(drawn))


def versus(pairs: Sequence[tuple[str, str]], answers: Mapping[str, Answers]) -> tuple[Versus, ...]:
    """Return the comparisons of a table, their p-values corrected for the number of all of them.

    Args:
        pairs: (row, other).
        answers: kind of tasks → task → answers.
    """
    found = list[Versus]()
    for kind, of_kind in answers.items():
        for row, other in pairs:
            having = {task: one for task, one in of_kind.items() if row in one.answers and other in one.answers}
            if having:
                found.append(_versus(row, other, kind, having))
    corrected = holm([one.p_value for one in found])
    return tuple(one.model_copy(update={"holm": value}) for one, value in zip(found, corrected, strict=True))


def _versus(row: str, other: str, kind: str, having: Answers) -> Versus:
    drawn = np.mean([one.accuracy(row) - one.accuracy(other) for one in having.values()], axis=0)
    each = [one.answers[row].best.accuracy - one.answers[other].best.accuracy for one in having.values()]
    p_value = two_sided(drawn)
    return Versus(
        row=row,
        other=other,
        kind=kind,
        tasks=tuple(having),
        accuracy=float(np.mean(each)),
        ci95=interval(drawn),
        p_value=p_value,
        holm=p_value,
    )


def choice_of(rows: Sequence[str], answers: Answers) -> Choice | None:
    """Return what it is worth to choose a row for each task, None where fewer than two rows or tasks can be compared.

    Halves are every other question. On each half the best row of each task, and the best one over all tasks, are
    chosen; the other half judges both.

    Args:
        rows: those to choose from.
        answers: of all tasks.
    """
    common = [row for row in rows if all(row in one.answers for one in answers.values())]
    if len(common) < 2 or len(answers) < 2:
        return None
    right = {task: np.stack([one.answers[row].best.correct.mean(0) for row in common]) for task, one in answers.items()}
    gains = list[Array]()  # a task's gain for each question that was not chosen on
    for half in (0, 1):
        means = {task: table[:, half::2].mean(1) for task, table in right.items()}
        single = int(np.mean(list(means.values()), axis=0).argmax())
        gains += [
            table[int(means[task].argmax()), 1 - half :: 2] - table[single, 1 - half :: 2]
            for task, table in right.items()
        ]
    rng = np.random.default_rng(0)
    drawn = np.mean([one[rng.integers(len(one), size=(5000, len(one)))].mean(1) for one in gains], axis=0)
    overall = np.mean([table.mean(1) for table in right.values()], axis=0)
    return Choice(
        best={task: common[int(table.mean(1).argmax())] for task, table in right.items()},
        single=common[int(overall.argmax())],
        gain=float(np.mean([one.mean() for one in gains])),
        ci95=interval(drawn),
    )


def spent_of(each: Sequence[tuple[Spent, Spent]]) -> tuple[Spent, Spent] | None:
    """Return the means of what cells cost; what one of them did not keep is not stated."""
    if not each:
        return None
    before, target = zip(*each, strict=True)
    return _mean_spent(before), _mean_spent(target)


def _mean_spent(values: Sequence[Spent]) -> Spent:
    tokens, seconds = _mean_known([one.tokens for one in values]), _mean_known([one.seconds for one in values])
    return Spent(
        steps=round(float(np.mean([one.steps for one in values]))),
        tokens=None if tokens is None else round(tokens),
        seconds=None if seconds is None else round(seconds, 1),
    )


def _mean_known(values: Sequence[float | None]) -> float | None:
    """Return a mean, None where one of the values is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def two_sided(drawn: Array) -> float:
    """Return the two-sided p-value of a bootstrap: twice the smaller share on one side of zero, at least 2/(R + 1).

    Args:
        drawn: (R,) differences.
    """
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: the smallest times m, the next times m − 1, never falling.

    Source: Holm 1979.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = highest
    return corrected

"""What answers say of rows: means over tasks, differences with intervals, p-values corrected for their number.

Every interval is a paired bootstrap over questions and seeds, or Wilson's where no draw differs; the tasks are those of
the table, and are not drawn.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from eval.baselines.baseline import Spent
from eval.generation.bootstrap import REPETITIONS, Array, interval, two_sided
from eval.generation.scores import TaskAnswers
from eval.paper.results import Choice, Mean, Versus
from tools.evaluate.statistics import wilson

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


def versus(pairs: Sequence[tuple[str, str]], answers: Mapping[str, Answers], *, ranked: bool) -> tuple[Versus, ...]:
    """Return the comparisons of a table, their p-values corrected for the number of all of them.

    Args:
        pairs: (row, other).
        answers: kind of tasks → task → answers.
        ranked: whether choices are ranked, so that there is a plain rule besides each row's own.
    """
    found = list[Versus]()
    for kind, of_kind in answers.items():
        for row, other in pairs:
            having = {task: one for task, one in of_kind.items() if row in one.answers and other in one.answers}
            if having:
                one = _versus(row, other, kind, having)
                found.append(one.model_copy(update=_plainly(row, other, having)) if ranked else one)
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


def _plainly(row: str, other: str, having: Answers) -> dict[str, object]:
    """Return the difference of two rows by the plain rule, and its interval."""
    pairs = [(one.draws, one.answers[row].default, one.answers[other].default) for one in having.values()]
    drawn = np.mean([draws.means(mine.correct) - draws.means(theirs.correct) for draws, mine, theirs in pairs], axis=0)
    each = [mine.accuracy - theirs.accuracy for _, mine, theirs in pairs]
    return {"plain": float(np.mean(each)), "plain_ci95": interval(drawn)}


def accuracy_interval(of_task: TaskAnswers, row: str) -> tuple[float, float]:
    """Return the 95 % interval of a row's accuracy on a task: Wilson's where no draw differs, as of 0 right of 60."""
    drawn, best = interval(of_task.accuracy(row)), of_task.answers[row].best
    n = best.correct.shape[1]
    return drawn if drawn[0] < drawn[1] else wilson(round(best.accuracy * n), n)


def choice_of(rows: Sequence[str], answers: Answers) -> Choice | None:
    """Return what it is worth to choose a row for each task, None where fewer than two rows or tasks can be compared.

    Halves are every other question. On each half the best row of each task, and the best one over all tasks, are
    chosen; the other half judges both. A draw takes each half's questions with replacement, chooses anew and judges: an
    interval of the judged questions alone would leave out that other questions choose other rows.

    Args:
        rows: those to choose from.
        answers: of all tasks.
    """
    common = [row for row in rows if all(row in one.answers for one in answers.values())]
    if len(common) < 2 or len(answers) < 2:
        return None
    right = {task: np.stack([one.answers[row].best.correct.mean(0) for row in common]) for task, one in answers.items()}
    halved = [np.stack([table[:, half::2].mean(1) for table in right.values()])[None] for half in (0, 1)]
    rng = np.random.default_rng(0)
    redrawn = [np.stack([_redrawn(table[:, half::2], rng) for table in right.values()], axis=1) for half in (0, 1)]
    overall = np.mean([table.mean(1) for table in right.values()], axis=0)
    return Choice(
        best={task: common[int(table.mean(1).argmax())] for task, table in right.items()},
        single=common[int(overall.argmax())],
        gain=float(_gain_of_choosing(*halved)[0]),
        ci95=interval(_gain_of_choosing(*redrawn)),
    )


def _redrawn(right: Array, rng: np.random.Generator) -> Array:
    """Return (R, rows) accuracies on questions drawn with replacement from (rows, n)."""
    n = right.shape[1]
    means: Array = rng.multinomial(n, [1 / n] * n, REPETITIONS) @ right.T / n
    return means


def _gain_of_choosing(first: Array, second: Array) -> Array:
    """Return (R,) what it gains to choose a row for each task on one half, instead of one for all, on the other half.

    Args:
        first: (R, T, rows) accuracies on one half of the questions.
        second: the same on the other.
    """
    gains = []
    for chosen_on, judged_on in ((first, second), (second, first)):
        best = chosen_on.argmax(2, keepdims=True)
        single = np.broadcast_to(chosen_on.mean(1, keepdims=True).argmax(2, keepdims=True), best.shape)
        own, shared = (np.take_along_axis(judged_on, which, 2) for which in (best, single))
        gains.append((own - shared).mean((1, 2)))
    mean: Array = np.mean(gains, axis=0)
    return mean


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

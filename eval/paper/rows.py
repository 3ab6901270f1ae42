"""What answers say of methods: means over tasks, differences with intervals, p-values corrected for their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.baselines.baseline import Spent
from eval.generation.bootstrap import Array, interval
from eval.generation.scores import TaskAnswers
from eval.generation.workshop import Recipe
from eval.paper.results import Against, Cell, Mean, Row
from tools.detect_drift.reference import IN_DOMAIN

STAGE_1, STAGES_1_2 = "cao_stage_1", "cao_stages_1_2"
OWN = (STAGE_1, STAGES_1_2)
"""The project's method: what the generator makes, and the same aligned. Stage 3 is a run's loop (``starts``)."""

KINDS = ("in domain", "out of domain")


@dataclass
class Plan:
    """What is compared.

    Attributes:
        recipes: method → task → a recipe for each seed.
        absent: method → task → why there is none.
        spent: method → what each of its cells cost before the target was known, and on it.
    """

    recipes: dict[str, dict[str, list[Recipe]]] = field(default_factory=dict)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    spent: dict[str, list[tuple[Spent, Spent]]] = field(default_factory=dict)

    def of(self, task: str) -> dict[str, list[Recipe]]:
        """Return the methods that a task has, with their recipes."""
        return {method: tasks[task] for method, tasks in self.recipes.items() if task in tasks}


def rows_of(plan: Plan, answers: Mapping[str, TaskAnswers]) -> dict[str, Row]:
    """Return what each method reaches, and what the project's first stage gains on it.

    Args:
        plan: what is compared.
        answers: task → what every method that it has answers.
    """
    means = {method: _means(method, answers) for method in plan.recipes}
    pairs = [(method, kind) for method, of_kinds in means.items() for kind, mean in of_kinds.items() if mean.against]
    corrected = holm([_p_value(means[method][kind]) for method, kind in pairs])
    for (method, kind), value in zip(pairs, corrected, strict=True):
        mean = means[method][kind]
        assert mean.against is not None
        against = mean.against.model_copy(update={"holm": value})
        means[method][kind] = mean.model_copy(update={"against": against})
    return {
        method: Row(
            cells={task: _cell(one, method) for task, one in answers.items() if method in one.answers},
            absent=plan.absent[method],
            means=means[method],
            spent=_spent(plan.spent.get(method, [])),
        )
        for method in plan.recipes
    }


def _cell(task: TaskAnswers, method: str) -> Cell:
    found = task.answers[method]
    return Cell(
        accuracy=found.best.accuracy,
        ci95=interval(task.accuracy(method)),
        default=found.default.accuracy,
        log_loss=found.best.log_loss,
        at_chance=found.at_chance,
        seeds=found.seeds,
    )


def _means(method: str, answers: Mapping[str, TaskAnswers]) -> dict[str, Mean]:
    """Return a method's means over the tasks of each kind, with what the project's method gains on the same."""
    found = dict[str, Mean]()
    for kind in KINDS:
        having = {
            task: one
            for task, one in answers.items()
            if method in one.answers and (task in IN_DOMAIN) == (kind == KINDS[0])
        }
        if having:
            drawn = np.mean([one.accuracy(method) for one in having.values()], axis=0)
            found[kind] = Mean(
                tasks=tuple(having),
                accuracy=float(np.mean([one.answers[method].best.accuracy for one in having.values()])),
                ci95=interval(drawn),
                against=None if method == STAGE_1 else _against(method, list(having.values()), drawn),
            )
    return found


def _against(method: str, tasks: Sequence[TaskAnswers], drawn: Array) -> Against:
    gains = np.mean([one.accuracy(STAGE_1) for one in tasks], axis=0) - drawn
    each = [one.answers[STAGE_1].best.accuracy - one.answers[method].best.accuracy for one in tasks]
    p_value = two_sided(gains)
    return Against(accuracy=float(np.mean(each)), ci95=interval(gains), p_value=p_value, holm=p_value)


def _p_value(mean: Mean) -> float:
    assert mean.against is not None
    return mean.against.p_value


def _spent(each: Sequence[tuple[Spent, Spent]]) -> tuple[Spent, Spent] | None:
    """Return the means of what cells cost; tokens or seconds that one did not keep are not stated."""
    if not each:
        return None

    def mean(values: Sequence[Spent]) -> Spent:
        tokens, seconds = [one.tokens for one in values], [one.seconds for one in values]
        known_tokens, known_seconds = [x for x in tokens if x is not None], [x for x in seconds if x is not None]
        return Spent(
            steps=round(np.mean([one.steps for one in values])),
            tokens=round(np.mean(known_tokens)) if len(known_tokens) == len(tokens) else None,
            seconds=round(float(np.mean(known_seconds)), 1) if len(known_seconds) == len(seconds) else None,
        )

    before, target = zip(*each, strict=True)
    return mean(before), mean(target)


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

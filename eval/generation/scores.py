"""From answers to statements: changes with intervals, tests, averages, and the counts that the aims are held against.

Source: CAO-LLM §2.2, §2.3; the controls and the recovery ratio are this project's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eval.generation.bootstrap import LEVEL, Answers, Array, Draws, interval, recovered, recovery
from eval.generation.results import (
    Aims,
    Change,
    KindAims,
    KindAverage,
    KindScore,
    MeanRecovery,
    Recovery,
    Scores,
    Tests,
)
from tools.evaluate.statistics import mcnemar_exact, paired_one_sided, wilson

JUDGED = ("generated", "aligned")
CONTROLS = ("mean", "nearest", "union", "wrong", "shuffled")


@dataclass(frozen=True)
class TaskAnswers:
    """One task's answers and the draws that its intervals come from.

    Attributes:
        answers: kind of adapter → its answers.
        draws: the bootstrap's.
    """

    answers: dict[str, Answers]
    draws: Draws = field(repr=False)

    def nll(self, name: str) -> Array:
        """Return (R,) the gold likelihood of each draw."""
        return self.draws.nll_per_char(self.answers[name])

    def accuracy(self, name: str) -> Array:
        """Return (R,) the accuracy of each draw."""
        return self.draws.accuracy(self.answers[name])

    def recovered(self, name: str) -> Array:
        """Return the recovery ratios of the draws in which the checkpoint gains; at most (R,)."""
        return recovered(self.draws, *(self.answers[key] for key in ("base", name, "checkpoint")))


def task_scores(task: TaskAnswers, *, in_domain: bool) -> Scores:
    """Return what one task's answers say.

    Args:
        task: its answers and draws.
        in_domain: whether its own checkpoint, and the generator that saw it, are among the answers.
    """
    answers = task.answers
    return Scores(
        n=answers["base"].n,
        rows={name: _kind_score(task, name) for name in answers},
        tests={name: _tests(answers["base"], answers[name]) for name in JUDGED},
        versus={
            name: {other: _change([task], name, other) for other in (*CONTROLS, *JUDGED[: JUDGED.index(name)])}
            for name in JUDGED
        },
        recovery={name: _recovery(task, name) for name in ("seen", *JUDGED)} if in_domain else None,
    )


def _kind_score(task: TaskAnswers, name: str) -> KindScore:
    answers = task.answers[name]
    return KindScore(
        nll=answers.nll_per_char,
        accuracy=answers.accuracy,
        ci95=wilson(round(answers.accuracy * answers.n), answers.n, LEVEL),
        log_loss=answers.log_loss,
        seeds=answers.seeds,
        change=None if name == "base" else _change([task], name, "base"),
    )


def _change(tasks: Sequence[TaskAnswers], name: str, other: str) -> Change:
    """Return how a kind of adapter differs from another on the same questions, mean over tasks, with intervals."""
    nll = np.mean([task.nll(name) - task.nll(other) for task in tasks], axis=0)
    accuracy = np.mean([task.accuracy(name) - task.accuracy(other) for task in tasks], axis=0)
    return Change(
        nll=_mean_nll(tasks, name) - _mean_nll(tasks, other),
        nll_ci95=interval(nll),
        accuracy=_mean_accuracy(tasks, name) - _mean_accuracy(tasks, other),
        accuracy_ci95=interval(accuracy),
    )


def _mean_nll(tasks: Sequence[TaskAnswers], name: str) -> float:
    return float(np.mean([task.answers[name].nll_per_char for task in tasks]))


def _mean_accuracy(tasks: Sequence[TaskAnswers], name: str) -> float:
    return float(np.mean([task.answers[name].accuracy for task in tasks]))


def _tests(base: Answers, answers: Answers) -> Tests:
    """Return McNemar's p of the first seed, and the one-sided p that the gold NLL, mean over seeds, is lower."""
    right, before = answers.correct[0] > 0.5, base.correct[0] > 0.5
    lost, gained = int((before & ~right).sum()), int((right & ~before).sum())
    diffs: list[float] = (answers.nll.mean(0) - base.nll[0]).tolist()
    return Tests(lost=lost, gained=gained, mcnemar_p=mcnemar_exact(lost, gained), nll_p=paired_one_sided(diffs))


def _recovery(task: TaskAnswers, name: str) -> Recovery | None:
    ratio = recovery(*(task.answers[key].nll_per_char for key in ("base", name, "checkpoint")))
    if ratio is None:
        return None
    ratios = task.recovered(name)
    return Recovery(ratio=ratio, ci95=interval(ratios) if len(ratios) else None)


def averages(tasks: Sequence[TaskAnswers]) -> dict[str, KindAverage]:
    """Return, for each kind of adapter that every task has, its mean over tasks and the mean change against base."""
    names = [name for name in tasks[0].answers if all(name in task.answers for task in tasks)]
    return {
        name: KindAverage(
            nll=_mean_nll(tasks, name),
            accuracy=_mean_accuracy(tasks, name),
            log_loss=float(np.mean([task.answers[name].log_loss for task in tasks])),
            change=None if name == "base" else _change(tasks, name, "base"),
        )
        for name in names
    }


def aims(scores: Mapping[str, Scores], answers: Mapping[str, TaskAnswers]) -> Aims:
    """Return what the aims are held against: counts over tasks for each judged kind, and the mean recovery ratio.

    Args:
        scores: task → what its answers say.
        answers: task → its answers and draws.
    """
    return Aims(
        tasks=len(scores),
        generated=_kind_aims(scores, "generated"),
        aligned=_kind_aims(scores, "aligned"),
        recovery={name: _mean_recovery(scores, answers, name) for name in ("seen", *JUDGED)},
    )


def _kind_aims(scores: Mapping[str, Scores], kind: str) -> KindAims:
    changes = {task: change for task, each in scores.items() if (change := each.rows[kind].change) is not None}
    against = {control: {task: each.versus[kind][control] for task, each in scores.items()} for control in CONTROLS}
    return KindAims(
        below_base=_below(changes),
        surely_below_base=_surely_below(changes),
        points=100 * float(np.mean([change.accuracy for change in changes.values()])),
        worse=tuple(task for task, change in changes.items() if change.accuracy < -0.01),
        below={control: _below(each) for control, each in against.items()},
        surely_below={control: _surely_below(each) for control, each in against.items()},
    )


def _below(changes: Mapping[str, Change]) -> tuple[str, ...]:
    return tuple(task for task, change in changes.items() if change.nll < 0)


def _surely_below(changes: Mapping[str, Change]) -> tuple[str, ...]:
    return tuple(task for task, change in changes.items() if change.nll_ci95[1] < 0)


def _mean_recovery(scores: Mapping[str, Scores], answers: Mapping[str, TaskAnswers], name: str) -> MeanRecovery | None:
    """Return the mean ratio over the tasks whose checkpoint gains, with its interval; None where there is none."""
    ratios = {task: kept.ratio for task, each in scores.items() if each.recovery and (kept := each.recovery[name])}
    if not ratios:
        return None
    drawn = [answers[task].recovered(name) for task in ratios]
    shortest = min(map(len, drawn))
    means = np.mean([each[:shortest] for each in drawn], axis=0)
    return MeanRecovery(
        ratio=float(np.mean(list(ratios.values()))),
        ci95=interval(means) if len(means) else None,
        tasks=tuple(ratios),
    )

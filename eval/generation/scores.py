"""From answers to statements: changes with intervals, tests, averages, and what the aims are held against.

Source: CAO-LLM §2.2, §2.3; the controls and the recovery ratio are this project's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.record.gains import rule_text
from eval.generation.bootstrap import LEVEL, Answers, Array, Draws, interval, over_tasks, recovered, recovery
from eval.generation.results import (
    Change,
    Contrast,
    Group,
    GroupAverage,
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
"""What is judged, where the folder has it; everything else but the base model is a control."""

POINT = 0.01
"""A task that loses more accuracy than this against the base model is named."""


@dataclass(frozen=True)
class TaskAnswers:
    """One task's answers and the draws that its intervals come from.

    Attributes:
        answers: kind of adapter → its answers.
        draws: the bootstrap's.
        chance: accuracy of guessing.
    """

    answers: dict[str, Answers]
    draws: Draws = field(repr=False)
    chance: float = 0.0

    @property
    def judged(self) -> list[str]:
        """The judged kinds that are there."""
        return [kind for kind in JUDGED if kind in self.answers]

    def nll(self, name: str) -> Array:
        """Return (R,) the gold likelihood of each draw."""
        return self.draws.nll_per_char(self.answers[name])

    def accuracy(self, name: str) -> Array:
        """Return (R,) the accuracy of each draw, by the best rule."""
        return self.draws.means(self.answers[name].best.correct)

    def log_loss(self, name: str) -> Array:
        """Return (R,) the choice log-loss of each draw, by the best rule."""
        return self.draws.means(self.answers[name].best.loss)

    def recovered(self, name: str) -> Array:
        """Return the recovery ratios of the draws in which the checkpoint gains; at most (R,)."""
        return recovered(self.draws, *(self.answers[key] for key in ("base", name, "checkpoint")))


def task_scores(task: TaskAnswers) -> Scores:
    """Return what one task's answers say."""
    answers = task.answers
    ratios = [kind for kind in ("seen", *JUDGED) if kind in answers]
    return Scores(
        n=answers["base"].n,
        chance=task.chance,
        rows={name: _kind_score(task, name) for name in answers},
        tests={name: _tests(answers["base"], answers[name]) for name in task.judged},
        versus={name: {other: _change([task], name, other) for other in others(task, name)} for name in task.judged},
        recovery={name: _recovery(task, name) for name in ratios} if "checkpoint" in answers else None,
    )


def others(task: TaskAnswers, name: str) -> list[str]:
    """Return what a judged kind is held against: base, the controls, and the judged kinds before it."""
    return [other for other in task.answers if other not in JUDGED[JUDGED.index(name) :]]


def _kind_score(task: TaskAnswers, name: str) -> KindScore:
    answers = task.answers[name]
    return KindScore(
        **dict(_average([task], name)),
        ci95=wilson(round(answers.best.accuracy * answers.n), answers.n, LEVEL),
        seeds=answers.seeds,
        at_chance=answers.at_chance,
        rules=tuple(map(rule_text, answers.rules)),
    )


def _change(tasks: Sequence[TaskAnswers], name: str, other: str) -> Change:
    """Return how a kind of adapter differs from another on the same questions, mean over tasks, with intervals."""
    drawn = [
        interval(over_tasks([value(task, name) - value(task, other) for task in tasks]))
        for value in (TaskAnswers.nll, TaskAnswers.accuracy, TaskAnswers.log_loss)
    ]
    after, before = _levels(tasks, name), _levels(tasks, other)
    nll, accuracy, log_loss = (new - old for new, old in zip(after, before, strict=True))
    return Change(
        nll=nll,
        nll_ci95=drawn[0],
        accuracy=accuracy,
        accuracy_ci95=drawn[1],
        log_loss=log_loss,
        log_loss_ci95=drawn[2],
    )


def _levels(tasks: Sequence[TaskAnswers], name: str) -> tuple[float, float, float]:
    """Return gold NLL per character, accuracy and log-loss by the best rule, means over tasks."""
    each = [task.answers[name] for task in tasks]
    found = [(answers.nll_per_char, answers.best.accuracy, answers.best.log_loss) for answers in each]
    nll, accuracy, log_loss = np.mean(found, axis=0).tolist()
    return nll, accuracy, log_loss


def _average(tasks: Sequence[TaskAnswers], name: str) -> KindAverage:
    nll, accuracy, log_loss = _levels(tasks, name)
    return KindAverage(
        nll=nll,
        accuracy=accuracy,
        log_loss=log_loss,
        default_accuracy=float(np.mean([task.answers[name].default.accuracy for task in tasks])),
        default_log_loss=float(np.mean([task.answers[name].default.log_loss for task in tasks])),
        change=None if name == "base" else _change(tasks, name, "base"),
    )


def _tests(base: Answers, answers: Answers) -> Tests:
    """Return McNemar's p of the first seed, and the one-sided p that the gold NLL, mean over seeds, is lower."""
    right, before = answers.best.correct[0] > 0.5, base.best.correct[0] > 0.5
    lost, gained = int((before & ~right).sum()), int((right & ~before).sum())
    diffs: list[float] = (answers.nll.mean(0) - base.nll[0]).tolist()
    return Tests(lost=lost, gained=gained, mcnemar_p=mcnemar_exact(lost, gained), nll_p=paired_one_sided(diffs))


def _recovery(task: TaskAnswers, name: str) -> Recovery | None:
    ratio = recovery(*(task.answers[key].nll_per_char for key in ("base", name, "checkpoint")))
    if ratio is None:
        return None
    ratios = task.recovered(name)
    return Recovery(ratio=ratio, ci95=interval(ratios) if len(ratios) else None)


def group(scores: Mapping[str, Scores], answers: Mapping[str, TaskAnswers]) -> Group:
    """Return what several tasks say together.

    Args:
        scores: task → what its answers say; those of ``answers``, or more.
        answers: task → its answers and draws, of the group's tasks.
    """
    having: dict[str, list[TaskAnswers]] = {}
    for task in answers.values():
        for name in task.answers:
            having.setdefault(name, []).append(task)
    return Group(
        tasks=tuple(answers),
        average={name: GroupAverage(**dict(_average(some, name)), tasks=len(some)) for name, some in having.items()},
        aims={kind: _aims(scores, answers, kind) for kind in JUDGED if kind in having},
    )


def _aims(scores: Mapping[str, Scores], answers: Mapping[str, TaskAnswers], kind: str) -> KindAims:
    judged = {name: task for name, task in answers.items() if kind in task.answers}
    against: dict[str, Contrast] = {}
    for other in dict.fromkeys(other for task in judged.values() for other in others(task, kind)):
        having = [name for name, task in judged.items() if other in task.answers]
        changes = {name: scores[name].versus[kind][other] for name in having}
        against[other] = Contrast(
            tasks=len(having),
            change=_change([answers[name] for name in having], kind, other),
            below=tuple(name for name, change in changes.items() if change.nll < 0),
            surely_below=tuple(name for name, change in changes.items() if change.nll_ci95[1] < 0),
        )
    worse = [name for name in judged if scores[name].versus[kind]["base"].accuracy < -POINT]
    return KindAims(worse=tuple(worse), against=against)


def mean_recoveries(scores: Mapping[str, Scores], answers: Mapping[str, TaskAnswers]) -> dict[str, MeanRecovery | None]:
    """Return, for each kind, the mean ratio over the tasks whose checkpoint gains; None where there is none."""
    kinds = dict.fromkeys(kind for each in scores.values() for kind in each.recovery or ())
    return {kind: _mean_recovery(scores, answers, kind) for kind in kinds}


def _mean_recovery(scores: Mapping[str, Scores], answers: Mapping[str, TaskAnswers], name: str) -> MeanRecovery | None:
    known = {task: each.recovery.get(name) for task, each in scores.items() if each.recovery}
    ratios = {task: kept.ratio for task, kept in known.items() if kept}
    if not ratios:
        return None
    drawn = [answers[task].recovered(name) for task in ratios]
    shortest = min(map(len, drawn))
    means = over_tasks([each[:shortest] for each in drawn])
    return MeanRecovery(
        ratio=float(np.mean(list(ratios.values()))),
        ci95=interval(means) if len(means) else None,
        tasks=tuple(ratios),
    )

"""From answers to statements: changes with intervals, tests, averages, and the counts that the aims are held against.

Source: CAO-LLM §2.2, §2.3; the controls and the recovery ratio are this project's.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.generation.bootstrap import LEVEL, Answers, Array, Draws, interval, recovered, recovery
from tools.evaluate.statistics import mcnemar_exact, paired_one_sided, wilson

JUDGED = ("generated", "aligned")
CONTROLS = ("mean", "nearest", "union", "wrong", "shuffled")


@dataclass(frozen=True)
class Measured:
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


def judge(measured: Measured, *, in_domain: bool) -> dict[str, Any]:
    """Return what one task's answers say.

    Args:
        measured: the task's answers and draws.
        in_domain: whether its own checkpoint, and the generator that saw it, are among the answers.

    Returns:
        ``rows`` (each kind of adapter), ``tests`` (against the base model), ``versus`` (judged against controls) and
        ``recovery``, None where there is no checkpoint.
    """
    answers = measured.answers
    tests = {name: _tests(answers["base"], answers[name]) for name in JUDGED}
    versus = {
        name: {other: _change(measured, name, other) for other in (*CONTROLS, *JUDGED[: JUDGED.index(name)])}
        for name in JUDGED
    }
    ratios = {name: _recovery(measured, name) for name in ("seen", *JUDGED)} if in_domain else None
    return {
        "n": answers["base"].n,
        "rows": {name: _row(measured, name) for name in answers},
        "tests": tests,
        "versus": versus,
        "recovery": ratios,
    }


def _row(measured: Measured, name: str) -> dict[str, Any]:
    found = measured.answers[name]
    row: dict[str, Any] = {
        "nll": found.nll_per_char,
        "accuracy": found.accuracy,
        "ci95": list(wilson(round(found.accuracy * found.n), found.n, LEVEL)),
        "log_loss": found.log_loss,
        "seeds": found.seeds,
    }
    return row if name == "base" else {**row, "change": _change(measured, name, "base")}


def _change(measured: Measured, name: str, other: str) -> dict[str, Any]:
    """Return how a kind of adapter differs from another on the same questions, with intervals."""
    found, before = measured.answers[name], measured.answers[other]
    return {
        "nll": found.nll_per_char - before.nll_per_char,
        "nll_ci95": list(interval(measured.nll(name) - measured.nll(other))),
        "accuracy": found.accuracy - before.accuracy,
        "accuracy_ci95": list(interval(measured.accuracy(name) - measured.accuracy(other))),
    }


def _tests(base: Answers, found: Answers) -> dict[str, float]:
    """Return McNemar's p of the first seed, and the one-sided p that the gold NLL, mean over seeds, is lower."""
    right, before = found.correct[0] > 0.5, base.correct[0] > 0.5
    lost, gained = int((before & ~right).sum()), int((right & ~before).sum())
    diffs: list[float] = (found.nll.mean(0) - base.nll[0]).tolist()
    return {"lost": lost, "gained": gained, "mcnemar_p": mcnemar_exact(lost, gained), "nll_p": paired_one_sided(diffs)}


def _recovery(measured: Measured, name: str) -> dict[str, Any] | None:
    parts = [measured.answers[key] for key in ("base", name, "checkpoint")]
    ratio = recovery(*(part.nll_per_char for part in parts))
    if ratio is None:
        return None
    ratios = recovered(measured.draws, *parts)
    return {"ratio": ratio, "ci95": list(interval(ratios)) if len(ratios) else None}


def averages(measured: dict[str, Measured]) -> dict[str, Any]:
    """Return, for each kind of adapter that every task has, its mean over tasks and the mean change against base."""
    names = [
        name for name in next(iter(measured.values())).answers if all(name in m.answers for m in measured.values())
    ]
    found: dict[str, Any] = {}
    for name in names:
        each = [m.answers[name] for m in measured.values()]
        found[name] = {
            "nll": float(np.mean([answers.nll_per_char for answers in each])),
            "accuracy": float(np.mean([answers.accuracy for answers in each])),
            "log_loss": float(np.mean([answers.log_loss for answers in each])),
        }
        if name != "base":
            nll = np.mean([m.nll(name) - m.nll("base") for m in measured.values()], axis=0)
            accuracy = np.mean([m.accuracy(name) - m.accuracy("base") for m in measured.values()], axis=0)
            found[name]["change"] = {
                "nll": found[name]["nll"] - found["base"]["nll"],
                "nll_ci95": list(interval(nll)),
                "accuracy": found[name]["accuracy"] - found["base"]["accuracy"],
                "accuracy_ci95": list(interval(accuracy)),
            }
    return found


def aims(tasks: dict[str, Any], measured: dict[str, Measured]) -> dict[str, Any]:
    """Return what the aims are held against: counts over tasks for each judged kind, and the mean recovery ratio.

    Args:
        tasks: task → what ``judge`` said.
        measured: task → its answers and draws.
    """
    found: dict[str, Any] = {"tasks": len(tasks)}
    for kind in JUDGED:
        changes = {task: said["rows"][kind]["change"] for task, said in tasks.items()}
        below = {
            control: [task for task, said in tasks.items() if said["versus"][kind][control]["nll"] < 0]
            for control in CONTROLS
        }
        found[kind] = {
            "below_base": [task for task, change in changes.items() if change["nll"] < 0],
            "surely_below_base": [task for task, change in changes.items() if change["nll_ci95"][1] < 0],
            "points": 100 * float(np.mean([change["accuracy"] for change in changes.values()])),
            "worse": [task for task, change in changes.items() if change["accuracy"] < -0.01],
            "below": below,
            "surely_below": {
                control: [task for task, said in tasks.items() if said["versus"][kind][control]["nll_ci95"][1] < 0]
                for control in CONTROLS
            },
        }
    found["recovery"] = {name: _mean_recovery(tasks, measured, name) for name in ("seen", *JUDGED)}
    return found


def _mean_recovery(tasks: dict[str, Any], measured: dict[str, Measured], name: str) -> dict[str, Any] | None:
    """Return the mean ratio over the tasks whose checkpoint gains, with its interval; None where there is none."""
    used = [task for task, said in tasks.items() if said["recovery"] and said["recovery"][name]]
    if not used:
        return None
    each = []
    for task in used:
        parts = [measured[task].answers[key] for key in ("base", name, "checkpoint")]
        each.append(recovered(measured[task].draws, *parts))
    shortest = min(map(len, each))
    means = np.mean([ratios[:shortest] for ratios in each], axis=0)
    ratio = float(np.mean([tasks[task]["recovery"][name]["ratio"] for task in used]))
    return {"ratio": ratio, "ci95": list(interval(means)) if len(means) else None, "tasks": used}

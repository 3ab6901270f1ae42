"""``scoring``: our ranking of answers against lm-evaluation-harness, and against what the machine could do.

Both sides get the same model object, questions, dtype and threads, and each starts from the texts; the harness
multiplies as torch does by itself. The pass that decisions are compared on comes first and is not timed; the harness
normalises in float32 there. By default it does so in the model's dtype, where bfloat16's three digits make near ties of
their own; how many decisions that changes is told, too.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cao.inference.scoring import plan_row
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import AdaptedModel, Example, Item
from eval.bench.flops import matmul_rate, scoring_flops
from eval.bench.measure import Figure, figure, geometric_mean, machine, plain_linear, ratio, relative_range, seconds
from eval.bench.plain.harness import VERSION, choices, open_harness, per_char
from tools.evaluate import evaluate


@dataclass(frozen=True)
class Subject:
    """Some questions of one task.

    Attributes:
        task: how they are asked.
        examples: the questions.
    """

    task: Task
    examples: Sequence[Example]

    def ours(self, lm: LanguageModel) -> list[Item]:
        """Score them by our engine."""
        return evaluate(self.task, self.examples, AdaptedModel(), "likelihood", lm=lm)

    def theirs(self, lm: LanguageModel, harness: Any) -> list[list[float]]:
        """Score them by the harness: log-probability per character of each answer."""
        with plain_linear(lm.model):
            return per_char(harness, [self.task.query(example, lm.profile.answer_style) for example in self.examples])

    def flops(self, lm: LanguageModel) -> float:
        """Return the operations that scoring them needs."""
        return scoring_flops(
            lm, [plan_row(lm, self.task.query(example, lm.profile.answer_style)) for example in self.examples]
        )


def bench(
    lm: LanguageModel, subjects: Sequence[Subject], *, repetitions: int, batch: int, progress: Progress = silent
) -> dict[str, Any]:
    """Measure both sides.

    Args:
        lm: the model, undressed.
        subjects: the tasks.
        repetitions: timed passes of each side.
        batch: sequences of one forward pass of the harness.
        progress: told after each pass.
    """
    described = machine()
    harness = open_harness(lm, batch)
    decided = _decisions(lm, subjects, batch, progress)
    names = [subject.task.name for subject in subjects]
    ours: dict[str, list[float]] = {name: [] for name in names}
    theirs: dict[str, list[float]] = {name: [] for name in names}
    rates, by_default = [], 0
    for turn in range(repetitions):
        rates.append(matmul_rate(lm.model.dtype, lm.device))
        for name, subject in zip(names, subjects, strict=True):
            scores: list[list[list[float]]] = []
            ours[name].append(seconds(lambda s=subject: s.ours(lm), lm.device))  # type: ignore[misc]
            theirs[name].append(
                seconds(lambda s=subject, kept=scores: kept.append(s.theirs(lm, harness)), lm.device)  # type: ignore[misc]
            )
            if not turn:
                mine = decided["choices"][name]
                by_default += sum(a == b for a, b in zip(mine, choices(scores[0]), strict=True))
        progress("repetition", turn + 1, repetitions)
    figures = {name: ratio(theirs[name], ours[name]) for name in names}
    needed = sum(subject.flops(lm) for subject in subjects)
    totals = [sum(ours[name][turn] for name in names) for turn in range(repetitions)]
    share = figure([needed / total / rate for total, rate in zip(totals, rates, strict=True)])
    return {
        "bench": "scoring",
        "machine": described,
        "harness": f"lm_eval {VERSION}, batch {batch}",
        "dtype": lm.dtype,
        "repetitions": repetitions,
        "questions": {subject.task.name: len(subject.examples) for subject in subjects},
        "ratios": {name: each.stated for name, each in figures.items()},
        "noisy": [name for name, each in figures.items() if each.noisy] + ["machine_share"] * share.noisy,
        "spreads": {name: round(each.spread, 4) for name, each in figures.items()},
        "geomean_ratio": geometric_mean(list(figures.values())),
        "seconds": {name: _medians(ours[name], theirs[name]) for name in names},
        "decisions": decided["count"],
        "decisions_equal": decided["equal"],
        "decisions_equal_in_default_precision": by_default,
        "decisions_equal_to_batches_of_one": decided["single"],
        "harness_equal_to_its_batches_of_one": decided["single_itself"],
        "differences": decided["differences"],
        "machine_share": share.stated,
        "machine_share_spread": round(share.spread, 4),
        "matmul_flops_per_s": statistics.median(rates),
        "matmul_spread": round(relative_range(rates), 4),
        "useful_flops": needed,
    }


def _medians(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    return {"ours": round(statistics.median(ours), 3), "harness": round(statistics.median(theirs), 3)}


def _decisions(lm: LanguageModel, subjects: Sequence[Subject], batch: int, progress: Progress) -> dict[str, Any]:
    """Compare decisions item by item; ``gap`` is how far the two answers lie apart, the smaller of both sides'."""
    exact, single = (open_harness(lm, size, "float32") for size in (batch, 1))
    found: dict[str, Any] = {"count": 0, "equal": 0, "single": 0, "single_itself": 0, "choices": {}, "differences": []}
    for done, subject in enumerate(subjects, 1):
        items, scores = subject.ours(lm), subject.theirs(lm, exact)
        alone = choices(subject.theirs(lm, single))
        found["single"] += sum(item.choice == choice for item, choice in zip(items, alone, strict=True))
        found["single_itself"] += sum(a == b for a, b in zip(choices(scores), alone, strict=True))
        found["choices"][subject.task.name] = [item.choice for item in items]
        for item, theirs, choice in zip(items, scores, choices(scores), strict=True):
            found["count"] += 1
            if item.choice == choice:
                found["equal"] += 1
                continue
            gaps = (item.scores[item.choice] - item.scores[choice], theirs[choice] - theirs[item.choice])
            found["differences"].append(
                {"task": subject.task.name, "id": item.id, "ours": item.choice, "harness": choice, "gap": min(gaps)}
            )
        progress("decisions", done, len(subjects))
    return found


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words."""
    found = [("computed in", result["dtype"])]
    for name, value in result["ratios"].items():
        spent = result["seconds"][name]
        each = Figure(0.0 if value is None else value, result["spreads"][name])
        beside = "" if each.noisy else f", {spent['harness']:.2f} s against {spent['ours']:.2f} s"
        found.append((f"{name}, {result['questions'][name]} questions", each.told() + beside))
    mean = result["geomean_ratio"]
    found.append(("geometric mean", "none: a figure above is too noisy" if mean is None else f"{mean:.2f}"))
    default = result["decisions_equal_in_default_precision"]
    found.append(
        (
            "equal decisions",
            f"{result['decisions_equal']} of {result['decisions']} "
            f"({default} where the harness normalises in the model's dtype, its default)",
        )
    )
    single, itself = result["decisions_equal_to_batches_of_one"], result["harness_equal_to_its_batches_of_one"]
    found.append(
        ("equal to the harness in batches of one", f"{single}; the harness in its own batches: {itself} (rounding)")
    )
    share = Figure(result["machine_share"] or 0.0, result["machine_share_spread"])
    rate = result["matmul_flops_per_s"] / 1e9
    found.append(("useful share of the matrix rate", f"{share.told()}; rate {rate:.0f} GFLOP/s"))
    return found

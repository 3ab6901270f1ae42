"""``scoring``: our ranking of answers against lm-evaluation-harness, and against what the machine could do.

Both sides get the same model object, questions, dtype and threads, and each starts from the texts; the harness
multiplies as torch does by itself. The pass that decisions are compared on comes first and is not timed; the harness
normalises in float32 there. By default it does so in the model's dtype, where bfloat16's three digits make near ties of
their own; how many decisions that changes is counted, too.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cao.inference.scoring import plan_row
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import AdaptedModel, Example, Item
from eval.bench.flops import matmul_rate, scoring_flops
from eval.bench.measure import (
    figure,
    geometric_mean,
    machine,
    plain_linear,
    ratio,
    relative_range,
    seconds,
)
from eval.bench.plain.harness import VERSION, Harness, choices, open_harness, per_char
from eval.bench.scoring_result import Difference, Medians, ScoringResult
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

    def theirs(self, lm: LanguageModel, harness: Harness) -> list[list[float]]:
        """Score them by the harness: log-probability per character of each answer."""
        with plain_linear(lm.model):
            return per_char(harness, [self.task.query(example, lm.profile.answer_style) for example in self.examples])

    def flops(self, lm: LanguageModel) -> float:
        """Return the operations that scoring them needs."""
        return scoring_flops(
            lm, [plan_row(lm, self.task.query(example, lm.profile.answer_style)) for example in self.examples]
        )


@dataclass(frozen=True)
class Decisions:
    """Which answers both sides choose.

    Attributes:
        choices: task → our choices.
        equal: questions where the harness chooses alike.
        single: where it does so one sequence at a time.
        single_itself: where it chooses alike in batches and one at a time.
        differences: questions where the sides differ.
    """

    choices: dict[str, list[int]]
    equal: int
    single: int
    single_itself: int
    differences: list[Difference]

    @property
    def count(self) -> int:
        """Number of questions."""
        return sum(map(len, self.choices.values()))


@dataclass(frozen=True)
class Timings:
    """Timed passes of both sides, by turns.

    Attributes:
        ours: task → seconds of each repetition.
        theirs: the same of the harness.
        rates: the machine's rate of matrix products before each repetition, operations a second.
        by_default: questions that the harness decides as we do in its default precision.
    """

    ours: dict[str, list[float]]
    theirs: dict[str, list[float]]
    rates: list[float]
    by_default: int


def bench(
    lm: LanguageModel, subjects: Sequence[Subject], *, repetitions: int, batch: int, progress: Progress = silent
) -> ScoringResult:
    """Measure both sides.

    Args:
        lm: the model, undressed.
        subjects: the tasks.
        repetitions: timed passes of each side.
        batch: sequences of one forward pass of the harness.
        progress: called after each pass.
    """
    described = machine()
    harness = open_harness(lm, batch)
    decided = decisions(lm, subjects, batch, progress)
    timed = _timings(lm, subjects, harness, decided, repetitions, progress)
    figures = {name: ratio(timed.theirs[name], timed.ours[name]) for name in timed.ours}
    needed = sum(subject.flops(lm) for subject in subjects)
    totals = [sum(took[turn] for took in timed.ours.values()) for turn in range(repetitions)]
    share = figure([needed / total / rate for total, rate in zip(totals, timed.rates, strict=True)])
    return ScoringResult(
        bench="scoring",
        machine=described,
        repetitions=repetitions,
        harness=f"lm_eval {VERSION}, batch {batch}",
        dtype=lm.dtype,
        questions={subject.task.name: len(subject.examples) for subject in subjects},
        ratios={name: each.stated for name, each in figures.items()},
        noisy=[name for name, each in figures.items() if each.noisy] + ["machine_share"] * share.noisy,
        spreads={name: each.scatter for name, each in figures.items()},
        geomean_ratio=geometric_mean(list(figures.values())),
        seconds={name: _medians(timed.ours[name], timed.theirs[name]) for name in timed.ours},
        decisions=decided.count,
        decisions_equal=decided.equal,
        decisions_equal_in_default_precision=timed.by_default,
        decisions_equal_to_batches_of_one=decided.single,
        harness_equal_to_its_batches_of_one=decided.single_itself,
        differences=decided.differences,
        machine_share=share.stated,
        machine_share_spread=share.scatter,
        matmul_flops_per_s=statistics.median(timed.rates),
        matmul_spread=round(relative_range(timed.rates), 4),
        useful_flops=needed,
    )


def _timings(
    lm: LanguageModel,
    subjects: Sequence[Subject],
    harness: Harness,
    decided: Decisions,
    repetitions: int,
    progress: Progress,
) -> Timings:
    names = [subject.task.name for subject in subjects]
    ours: dict[str, list[float]] = {name: [] for name in names}
    theirs: dict[str, list[float]] = {name: [] for name in names}
    rates, by_default = list[float](), 0
    for turn in range(repetitions):
        rates.append(matmul_rate(lm.model.dtype, lm.device))
        for name, subject in zip(names, subjects, strict=True):
            scores: list[list[list[float]]] = []
            ours[name].append(seconds(lambda s=subject: s.ours(lm), lm.device))  # type: ignore[misc]
            theirs[name].append(
                seconds(lambda s=subject, kept=scores: kept.append(s.theirs(lm, harness)), lm.device)  # type: ignore[misc]
            )
            if not turn:
                mine = decided.choices[name]
                by_default += sum(a == b for a, b in zip(mine, choices(scores[0]), strict=True))
        progress("repetition", turn + 1, repetitions)
    return Timings(ours, theirs, rates, by_default)


def _medians(ours: Sequence[float], theirs: Sequence[float]) -> Medians:
    return Medians(ours=round(statistics.median(ours), 3), harness=round(statistics.median(theirs), 3))


def decisions(lm: LanguageModel, subjects: Sequence[Subject], batch: int, progress: Progress = silent) -> Decisions:
    """Compare decisions item by item, in a pass that is not timed.

    Args:
        lm: the model, undressed.
        subjects: the tasks.
        batch: sequences of one forward pass of the harness.
        progress: called after each task.
    """
    exact, single = (open_harness(lm, size, "float32") for size in (batch, 1))
    chosen: dict[str, list[int]] = {}
    equal = in_singles = with_itself = 0
    differences: list[Difference] = []
    for done, subject in enumerate(subjects, 1):
        name, items, scores = subject.task.name, subject.ours(lm), subject.theirs(lm, exact)
        batched, alone = choices(scores), choices(subject.theirs(lm, single))
        chosen[name] = [item.choice for item in items]
        in_singles += sum(ours == theirs for ours, theirs in zip(chosen[name], alone, strict=True))
        with_itself += sum(one == other for one, other in zip(batched, alone, strict=True))
        for item, theirs, choice in zip(items, scores, batched, strict=True):
            if item.choice == choice:
                equal += 1
                continue
            gap = min(item.scores[item.choice] - item.scores[choice], theirs[choice] - theirs[item.choice])
            differences.append(Difference(task=name, id=item.id, ours=item.choice, harness=choice, gap=gap))
        progress("decisions", done, len(subjects))
    return Decisions(chosen, equal, in_singles, with_itself, differences)

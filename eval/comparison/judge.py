"""What paired tests say about two sides, on the questions that both answered; every change is B minus A.

- Accuracy: what each side answered by its own rule. Exact McNemar test, and a bootstrap of the questions. Where a side
  was measured with several seeds, the bootstrap draws these too, and its p-value takes the place of McNemar's.
- Log-loss: of the choice scores, each side at its own temperature, cross-fitted, as a run compares two models.
  Two-sided paired t test, and a bootstrap of the questions.

Source: McNemar, 1947; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3 (percentile interval); the
log-loss is ``tools.evaluate.temperature``'s.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from agent.record.wording import count, p_text, points, signed
from cao.errors import InputError
from cao.types import Item, Record
from eval.comparison.answers import Answered, Name, Side
from eval.generation.bootstrap import REPETITIONS, Array, Draws, interval, two_sided
from tools.evaluate.statistics import differences, mcnemar_exact, paired_one_sided
from tools.evaluate.temperature import losses

LEVEL = 0.05
"""Two-sided level of the verdict's two tests."""

_BLOCK = 2_000_000
"""Counts that are drawn at a time."""

Pair = tuple[Name, Answered, Answered]


class Compared(Record):
    """One side of a comparison.

    Attributes:
        source: the file or folder.
        kind: what it is.
        task: whose questions, None where the file does not say.
        model: what answered, None where the file does not say.
        rule: what makes an answer of what was measured.
        answered: its questions.
        left_out: those of them that the other did not answer, or that cannot be told apart.
        seeds: S, how often each of its questions was answered.
        accuracy: share of right answers to the common questions, mean over seeds.
        log_loss: of the choices at its own temperature, nats; None where a side has no scores.
    """

    source: str
    kind: str
    task: str | None
    model: str | None
    rule: str
    answered: int
    left_out: int
    seeds: int
    accuracy: float
    log_loss: float | None


class LossChange(Record):
    """How the log-loss differs, nats.

    Attributes:
        n: questions of which both sides have scores.
        change: B minus A; negative is better for B.
        ci95: its bootstrap interval.
        p_value: two-sided, paired t test.
    """

    n: int
    change: float
    ci95: tuple[float, float]
    p_value: float


class Judgement(Record):
    """What was found.

    Attributes:
        a, b: the sides.
        n: questions that both answered.
        matched_by: what the questions were recognised by, and how many of them by each.
        accuracy_change: share of right answers, B minus A.
        accuracy_ci95: its bootstrap interval.
        only_a, only_b: questions that one side answered right with a larger share of its seeds; of one seed, alone.
        mcnemar_p_value: exact, two-sided; None where a side has several seeds.
        bootstrap_p_value: two-sided, of the draws behind the interval.
        loss: None where no question has scores on both sides.
        verdict: the same in words.
    """

    a: Compared
    b: Compared
    n: int
    matched_by: dict[str, int]
    accuracy_change: float
    accuracy_ci95: tuple[float, float]
    only_a: int
    only_b: int
    mcnemar_p_value: float | None
    bootstrap_p_value: float
    loss: LossChange | None
    verdict: str

    @property
    def p_value(self) -> float:
        """That of the accuracy's test: McNemar's, or of several seeds the bootstrap's."""
        return self.bootstrap_p_value if self.mcnemar_p_value is None else self.mcnemar_p_value


def matched(a: Side, b: Side) -> list[Pair]:
    """Return the questions that both sides answered, each with a name that both know it by, in the names' order.

    A name that a side gives to several questions names none; a question that goes with several of the other side is
    left out.

    Raises:
        InputError: there is no such question, or its right answer is another one on the other side.
    """
    of_a, of_b = _by_name(a.answers), _by_name(b.answers)
    shared: dict[tuple[int, int], list[Name]] = {}
    for name in sorted(of_a.keys() & of_b.keys()):
        shared.setdefault((of_a[name], of_b[name]), []).append(name)
    left, right = Counter(i for i, _ in shared), Counter(j for _, j in shared)
    pairs = [
        (min(names), a.answers[i], b.answers[j]) for (i, j), names in shared.items() if left[i] == 1 and right[j] == 1
    ]
    if not pairs:
        sizes = " and ".join(f"{side.source} ({count(len(side.answers), 'question')})" for side in (a, b))
        raise InputError(f"{sizes} have no question in common, by id or by text and choices; nothing can be compared")
    for name, first, second in pairs:
        _same_gold(name, first, second)
    return sorted(pairs, key=lambda pair: pair[0])


def judge(a: Side, b: Side) -> Judgement:
    """Compare two sides on the questions that both answered.

    Args:
        a: what is compared with.
        b: what is judged.

    Raises:
        InputError: no question is in both, a question's right answer differs, or the sides' seeds do not
            go together.
    """
    pairs = matched(a, b)
    n, right = len(pairs), [_right([pair[1] for pair in pairs]), _right([pair[2] for pair in pairs])]
    seeds = [len(table) for table in right]
    if min(seeds) > 1 and seeds[0] != seeds[1]:
        told = f"{a.source} was measured with {seeds[0]} seeds and {b.source} with {seeds[1]}"
        raise InputError(f"{told}; which of them go together is not known; measure both with the same seeds")
    changes = right[1] - right[0]
    gains = changes.mean(0)
    only_a, only_b = int((gains < 0).sum()), int((gains > 0).sum())
    mcnemar, drawn = mcnemar_exact(only_a, only_b) if max(seeds) == 1 else None, bootstrap(changes)
    ci95, p_value = interval(drawn), two_sided(drawn)
    loss, at_own = _loss(pairs)
    sides = [
        Compared(
            **{key: getattr(side, key) for key in ("source", "kind", "task", "model", "rule")},
            answered=len(side.answers),
            left_out=len(side.answers) - n,
            seeds=seeds[which],
            accuracy=float(right[which].mean()),
            log_loss=at_own[which] if at_own else None,
        )
        for which, side in enumerate((a, b))
    ]
    change = float(changes.mean())
    return Judgement(
        a=sides[0],
        b=sides[1],
        n=n,
        matched_by=dict(Counter(name[0] for name, _, _ in pairs)),
        accuracy_change=change,
        accuracy_ci95=ci95,
        only_a=only_a,
        only_b=only_b,
        mcnemar_p_value=mcnemar,
        bootstrap_p_value=p_value,
        loss=loss,
        verdict=_verdict(n, change, ci95, p_value if mcnemar is None else mcnemar, max(seeds), loss),
    )


def bootstrap(values: Array) -> Array:
    """Return (R,) the mean of values of which questions and seeds are drawn again, the same draws every time.

    Args:
        values: (S, n) a paired difference of each seed and question.
    """
    (seeds, n), rng = values.shape, np.random.default_rng(0)
    size = max(1, min(REPETITIONS, _BLOCK // n))
    sizes = [min(size, REPETITIONS - done) for done in range(0, REPETITIONS, size)]
    return np.concatenate([Draws.make(n, seeds, rng, each).means(values) for each in sizes])


def _right(answers: Sequence[Answered]) -> Array:
    """Return (S, n) 1 where a side's answer is right, else 0."""
    return np.array([one.correct for one in answers], dtype=np.float64).T


def _by_name(answers: Sequence[Answered]) -> dict[Name, int]:
    """Return the names that one answer alone has → its position."""
    counts = Counter(name for answer in answers for name in answer.names)
    return {name: i for i, answer in enumerate(answers) for name in answer.names if counts[name] == 1}


def _same_gold(name: Name, a: Answered, b: Answered) -> None:
    known = (a.gold_text, b.gold_text) if a.gold_text and b.gold_text else (a.gold, b.gold)
    if -1 not in known and known[0] != known[1]:
        told = f"the right answer is {str(known[0])[:40]!r} in A and {str(known[1])[:40]!r} in B"
        raise InputError(f"{name[0]} {name[1][:40]}: {told}; the two were not graded by the same data")


def _loss(pairs: Sequence[Pair]) -> tuple[LossChange | None, tuple[float, float] | None]:
    """Return how the log-loss differs and that of each side, where both have scores."""
    scored = [(name, first, second) for name, first, second in pairs if first.scores and second.scores]
    if not scored:
        return None, None
    a = [_item(name, first) for name, first, _ in scored]
    b = [_item(name, second) for name, _, second in scored]
    changes = differences(a, b)
    tails = [paired_one_sided(signs.tolist()) for signs in (changes, -changes)]
    found = LossChange(
        n=len(scored),
        change=float(changes.mean()),
        ci95=interval(bootstrap(changes[None])),
        p_value=min(1.0, 2 * min(tails)),
    )
    return found, (float(losses(a).mean()), float(losses(b).mean()))


def _item(name: Name, side: Answered) -> Item:
    """Return an answer for the statistics; both sides' have one id, and their losses are made of the scores."""
    return Item(id=name[1], scores=side.scores, gold=side.gold, correct=all(side.correct), loss=0.0)


def _verdict(
    n: int, change: float, ci95: tuple[float, float], p_value: float, seeds: int, loss: LossChange | None
) -> str:
    """Return the judgement in words: accuracy first, then the log-loss."""
    low, high = points(ci95[0]).removesuffix(" points"), points(ci95[1])
    test = "exact McNemar" if seeds == 1 else f"bootstrap of questions and {seeds} seeds,"
    found = f"{points(change)}, 95 %: {low} to {high}, {test} {p_text(p_value)}"
    if p_value <= LEVEL:
        better, worse = ("B", "A") if change > 0 else ("A", "B")
        told = f"{better} answers more of the {count(n, 'question')} right than {worse} (B − A: {found})"
    else:
        told = f"no difference in accuracy can be told from chance on {count(n, 'question')} (B − A: {found})"
    if loss is None:
        return f"{told}; log-losses are not compared, because no question has choice scores on both sides"
    nats = f"{signed(loss.change)} nats, 95 %: {signed(loss.ci95[0])} to {signed(loss.ci95[1])}, {p_text(loss.p_value)}"
    if loss.p_value <= LEVEL:
        lower, higher = ("B", "A") if loss.change < 0 else ("A", "B")
        return f"{told}; {lower}'s log-loss is lower than {higher}'s (B − A: {nats})"
    return f"{told}; no difference in log-loss can be told from chance (B − A: {nats})"

"""How often the rules of acceptance take what is no better: simulated candidates on questions with four choices.

A model that answers between .3 and .6 of the questions right is drawn, then candidates that cannot be better than it.
Nothing here needs a language model. ``python -m eval.tables --table acceptance`` writes the table.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cao.progress import Progress, silent
from cao.types import AcceptRule, Item, Record
from eval.pages.markdown import table, with_interval
from eval.pages.writing import write_result
from tools.evaluate.statistics import CONFIDENT_LEVEL, compare, paired_one_sided, wilson

CHOICES = 4
ACCURACY = (0.3, 0.6)
QUESTIONS = (96, 200)
DRAWS = 1000

ADAPTERS, ATTEMPTS = 2, 4
"""What a default run holds against the model: the adapters that it may start from, then attempts until one is taken."""

Array = NDArray[np.float64]
Candidate = Callable[[np.random.Generator, Array, NDArray[np.intp], float], Array]
"""(generator, scores (n, 4), gold (n,), how much the model knows) → the candidate's scores."""


def _noise(size: float) -> Candidate:
    return lambda rng, scores, gold, knows: scores + size * scores.std() * rng.normal(size=scores.shape)


TWINS = "the same, each question twice"
"""Whose questions come in equal pairs, half as many different ones: dependence at its worst."""

CANDIDATES: dict[str, Candidate] = {
    "scores × .8": lambda rng, scores, gold, knows: 0.8 * scores,
    "scores × 3": lambda rng, scores, gold, knows: 3.0 * scores,
    "each question's scores × its own factor": lambda rng, scores, gold, knows: (
        scores * rng.lognormal(0.0, 0.5, size=(len(scores), 1))
    ),
    "noise, .03 of the scores' spread": _noise(0.03),
    "noise, .1 of it": _noise(0.1),
    "noise, .3 of it": _noise(0.3),
    "noise, all of it": _noise(1.0),
    "another model, as good": lambda rng, scores, gold, knows: _answered(rng, gold, knows),
    TWINS: lambda rng, scores, gold, knows: _answered(rng, gold, knows),
}


IN_RUNS = ("noise, .1 of it", "another model, as good", TWINS)
"""Kinds of candidates of which whole runs are simulated."""

Judging = Literal["either", "confident", "any", "raw"]


class Rate(Record):
    """How often a rule took a kind of candidate.

    Attributes:
        candidate: what the candidate is.
        n: reward questions.
        rule: one of acceptance, or ``raw``: accuracy not lower and the log-loss of the scores as they are lower at .1,
            what ``confident`` was without temperatures.
        rate: share of the draws in which it was accepted.
        ci95: Wilson's interval.
    """

    candidate: str
    n: int
    rule: Judging
    rate: float
    ci95: tuple[float, float]


class Acceptance(Record):
    """The tables, and the command that makes them.

    Attributes:
        command: that was given.
        draws: of a cell.
        seed: of the draws.
        rates: of one comparison.
        runs: of whole runs that take anything at all.
    """

    command: str
    draws: int
    seed: int
    rates: tuple[Rate, ...]
    runs: tuple[Rate, ...]


def measure(command: str, seed: int = 0, draws: int = DRAWS, progress: Progress = silent) -> Acceptance:
    """Return how often each rule accepts each candidate, and how often a whole run takes any of several.

    Args:
        command: that makes the table.
        seed: of the draws.
        draws: of a cell.
        progress: called after each cell.
    """
    cells = [(n, name) for n in QUESTIONS for name in CANDIDATES]
    rates, runs = list[Rate](), list[Rate]()
    for done, (n, name) in enumerate(cells, 1):
        rates += _cell(name, n, np.random.default_rng((seed, n, *name.encode())), draws)
        if name in IN_RUNS:
            runs += _runs(name, n, np.random.default_rng((seed, n, 1, *name.encode())), draws)
        progress("acceptance", done, len(cells))
    return Acceptance(command=command, draws=draws, seed=seed, rates=tuple(rates), runs=tuple(runs))


def _cell(name: str, n: int, rng: np.random.Generator, draws: int) -> list[Rate]:
    counts: dict[Judging, int] = {"either": 0, "confident": 0, "any": 0, "raw": 0}
    for _ in range(draws):
        best, candidate = _sides(name, n, rng, 1)
        verdict = compare(best, candidate, "confident")
        counts["either"] += compare(best, candidate, "either").accepted
        raw = paired_one_sided([new.loss - old.loss for old, new in zip(best, candidate, strict=True)])
        counts["confident"] += verdict.accepted
        counts["any"] += verdict.accuracy_change > 0
        counts["raw"] += verdict.accuracy_change >= 0 and raw <= 0.1
    return _rates(name, n, counts, draws)


def _runs(name: str, n: int, rng: np.random.Generator, draws: int) -> list[Rate]:
    """Return how often a run takes anything, where all that it tries is one kind of candidate."""
    counts: dict[Judging, int] = {"either": 0, "confident": 0, "any": 0}
    levels = [CONFIDENT_LEVEL / ADAPTERS] * ADAPTERS + [CONFIDENT_LEVEL / ATTEMPTS] * ATTEMPTS
    for _ in range(draws):
        model, *candidates = _sides(name, n, rng, len(levels))
        for rule in get_args(AcceptRule):
            tried = zip(candidates, levels, strict=True)
            counts[rule] += any(compare(model, each, rule, level=level).accepted for each, level in tried)
    return _rates(name, n, counts, draws)


def _sides(name: str, n: int, rng: np.random.Generator, candidates: int) -> list[list[Item]]:
    """Return a model's items on n questions, and those of candidates of one kind."""
    times = 2 if name == TWINS else 1
    scores, gold, knows = _model(rng, n // times)
    sides = [scores, *(CANDIDATES[name](rng, scores, gold, knows) for _ in range(candidates))]
    return [_items(each.repeat(times, 0), gold.repeat(times)) for each in sides]


def _rates(name: str, n: int, counts: Mapping[Judging, int], draws: int) -> list[Rate]:
    return [
        Rate(candidate=name, n=n, rule=rule, rate=count / draws, ci95=wilson(count, draws))
        for rule, count in counts.items()
    ]


def _model(rng: np.random.Generator, n: int) -> tuple[Array, NDArray[np.intp], float]:
    """Return a model's scores on n questions, the right choices, and how much it knows."""
    while True:
        gold, knows = rng.integers(CHOICES, size=n), float(rng.uniform(0.1, 1.2))
        scores = _answered(rng, gold, knows)
        if ACCURACY[0] <= (scores.argmax(1) == gold).mean() <= ACCURACY[1]:
            return scores, gold, knows


def _answered(rng: np.random.Generator, gold: NDArray[np.intp], knows: float) -> Array:
    """Return log-likelihoods per character: the right choice's is higher by ``knows`` spreads on average."""
    scores = rng.normal(size=(len(gold), CHOICES))
    scores[np.arange(len(gold)), gold] += knows
    spread = 0.8 * rng.lognormal(0.0, 0.5, size=(len(gold), 1))
    return np.asarray(spread * scores - 2.0)


def _items(scores: Array, gold: NDArray[np.intp]) -> list[Item]:
    rows, chosen = np.arange(len(gold)), scores.argmax(1)
    raw = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1) - scores[rows, gold]
    return [
        Item(
            id=f"q{i}",
            scores=tuple(scores[i].tolist()),
            choice=int(chosen[i]),
            gold=int(gold[i]),
            correct=bool(chosen[i] == gold[i]),
            loss=float(raw[i]),
        )
        for i in rows
    ]


def write_page(result: Acceptance, folder: Path) -> Path:
    """Write ``acceptance.json`` and ``acceptance.md``, and return the page's path.

    Raises:
        InputError: they cannot be written.
    """
    lines = [
        "# What the rules of acceptance take that is no better",
        f"Made by `{result.command}`: {result.draws} draws a cell, four choices a question, the model between "
        f"{100 * ACCURACY[0]:.0f} and {100 * ACCURACY[1]:.0f} % right. Each rate has its 95 % interval. `confident` "
        "compares losses at each side's own temperature and asks for the smallest change that the questions can see; "
        "`either` does so too, or takes a surely higher accuracy, each at half the level; `any` is the paper's rule, a "
        f"higher accuracy. The level is one-sided {CONFIDENT_LEVEL:g}, that of one comparison: a run divides it by the "
        "attempts that it may make, or by the adapters that it may start from. The last column is `confident` as it "
        "was, on the scores as they are.",
        _table(result.rates, "log-loss of the scores as they are"),
        "## A whole run",
        f"How many of {result.draws} runs take anything, where the {ADAPTERS} adapters of the start and the {ATTEMPTS} "
        "attempts of the loop are all candidates of one kind: each adapter at a level of "
        f"{CONFIDENT_LEVEL / ADAPTERS:g}, each attempt at {CONFIDENT_LEVEL / ATTEMPTS:g}, so together at "
        f"{2 * CONFIDENT_LEVEL:g} at most where questions are independent.",
        _table(result.runs),
    ]
    return write_result(result, "\n\n".join(lines), folder, "acceptance")


def _table(rates: Sequence[Rate], *more: str) -> str:
    """Return rates as a table: a row for each kind of candidate and number of questions, a column for each rule."""
    rows: dict[tuple[int, str], list[str]] = {}
    for rate in rates:
        rows.setdefault((rate.n, rate.candidate), []).append(_shown(rate))
    heads = ["candidate", "questions", *get_args(AcceptRule), *more]
    return table(heads, [[name, str(n), *shown] for (n, name), shown in rows.items()])


def _shown(rate: Rate) -> str:
    return with_interval(rate.rate, rate.ci95, ".1f", unit=" %")

"""What an adapter costs where it was not made for: other tasks' questions, and plain prose.

Each reported task's adapter answers the other tasks, both sides by the base model's own best rule for that task, and
reads passages of novels, which no source has.

Axis letters: A adapters, T tasks, n questions, R draws.

Source: CAO-LLM §2.3 (the KL term is to keep what the model knew); the measurement is this project's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cao.types import Record
from eval.generation.bootstrap import REPETITIONS, Array, interval
from eval.generation.cells import Ask, Cells
from eval.generation.rules import Judge
from eval.generation.sheets import PROSE, Sheet, questions
from eval.generation.workshop import BASE, Recipe

QUESTIONS = 60
"""Of each other task, and passages, at most."""

Wanted = Iterable[tuple[Recipe, Ask]]


class Estimate(Record):
    """A mean with its bootstrap interval."""

    mean: float
    ci95: tuple[float, float]


class Retention(Record):
    """What adapters change where they were not made for.

    Attributes:
        kinds: task → the kind of its adapter, that of the first seed.
        questions: of each other task, at most.
        accuracy: change against the base model over all pairs of an adapter and another task; the interval draws
            adapters, tasks and questions.
        points: task of the adapter → other task → change of the accuracy, share of questions.
        passages: that are read.
        tokens: in them.
        base_perplexity: of a token, of the base model.
        perplexity: task of the adapter → the same with it.
        prose: change of the mean log-likelihood's negative of a token, nats, mean over adapters; the interval draws
            adapters and passages.
    """

    kinds: dict[str, str]
    questions: int
    accuracy: Estimate
    points: dict[str, dict[str, float]]
    passages: int
    tokens: int
    base_perplexity: float
    perplexity: dict[str, float]
    prose: Estimate


@dataclass(frozen=True)
class Started:
    """The adapter that a task starts from: its kind, and how it is made."""

    kind: str
    recipe: Recipe


def measure(
    cells: Cells, judges: Mapping[str, Judge], started: Mapping[str, Started], fill: Callable[[Wanted], None]
) -> Retention | None:
    """Return what adapters cost where they were not made for, None for fewer than two tasks.

    Args:
        cells: where the base model's answers to the tasks' reward questions are, and these come to.
        judges: task → its sheets.
        started: task → its adapter.
        fill: scores what is missing of what is wanted.
    """
    if len(started) < 2:
        return None
    base, limit = Recipe(BASE, None, "the base model"), min(QUESTIONS, *(judge.test.limit for judge in judges.values()))
    sheets = {task: Sheet(task, judges[task].test.part, limit) for task in started}
    rules = {task: judges[task].best(cells, base) for task in started}
    prose, asks = Sheet(PROSE.name, "test", limit), dict[str, list[Ask]]()
    for task, sheet in sheets.items():
        labels = [Ask(judges[task].support)] if rules[task].prior == "batch" else []
        asks[task] = [Ask(sheet, prior=rules[task].prior == "choice"), *labels]
    wanted = [(base, ask) for task in sheets for ask in asks[task]] + [(base, Ask(prose))]
    for task, one in started.items():
        wanted += [(one.recipe, ask) for other in sheets if other != task for ask in asks[other]]
        wanted.append((one.recipe, Ask(prose)))
    fill(wanted)

    def right(recipe: Recipe, task: str) -> Array:
        items = judges[task].answers(cells, recipe, sheets[task], rules[task])
        return np.array([item.correct for item in items], dtype=np.float64)

    before = {task: right(base, task) for task in sheets}
    changes = {
        task: {other: right(one.recipe, other) - before[other] for other in sheets if other != task}
        for task, one in started.items()
    }
    costs, tokens = _passages(cells, [base, *(one.recipe for one in started.values())], prose)
    perplexities = np.exp(costs.sum(1) / tokens.sum())
    return Retention(
        kinds={task: one.kind for task, one in started.items()},
        questions=limit,
        accuracy=pairs_mean(list(changes.values()), list(sheets)),
        points={task: {other: float(diffs.mean()) for other, diffs in own.items()} for task, own in changes.items()},
        passages=len(questions(prose)),
        tokens=int(tokens.sum()),
        base_perplexity=float(perplexities[0]),
        perplexity=dict(zip(started, perplexities[1:].tolist(), strict=True)),
        prose=prose_change(costs, tokens),
    )


def pairs_mean(changes: Sequence[Mapping[str, Array]], tasks: Sequence[str]) -> Estimate:
    """Return the mean over all pairs of an adapter and another task; adapters, tasks and questions are drawn.

    Args:
        changes: of A adapters, other task → (n,) candidate minus base of each question.
        tasks: T names.
    """
    rng = np.random.default_rng(0)
    total, weight = np.zeros(REPETITIONS), np.zeros(REPETITIONS)
    adapters = rng.multinomial(len(changes), [1 / len(changes)] * len(changes), REPETITIONS)
    picked = rng.multinomial(len(tasks), [1 / len(tasks)] * len(tasks), REPETITIONS)
    for t, task in enumerate(tasks):
        size = len(next(own[task] for own in changes if task in own))
        counts = rng.multinomial(size, [1 / size] * size, REPETITIONS)  # the same questions for every adapter
        for a, own in enumerate(changes):
            if task in own:
                share = adapters[:, a] * picked[:, t]
                total += share * (counts @ own[task]) / size
                weight += share
    some = weight > 0  # a draw of one task and its own adapter alone says nothing
    mean = float(np.mean([float(diffs.mean()) for own in changes for diffs in own.values()]))
    return Estimate(mean=mean, ci95=interval(total[some] / weight[some]))


def prose_change(costs: Array, tokens: Array) -> Estimate:
    """Return the change of a token's negative log-likelihood, mean over adapters; adapters and passages are drawn.

    Args:
        costs: (1 + A, n) negative log-likelihoods of passages, nats; the base model's first.
        tokens: (n,) in each passage.
    """
    rng, diffs = np.random.default_rng(0), costs[1:] - costs[0]
    adapters = rng.multinomial(len(diffs), [1 / len(diffs)] * len(diffs), REPETITIONS)
    passages = rng.multinomial(len(tokens), [1 / len(tokens)] * len(tokens), REPETITIONS)
    drawn: Array = ((adapters @ diffs) * passages).sum(1) / len(diffs) / (passages @ tokens)
    return Estimate(mean=float(diffs.mean(0).sum() / tokens.sum()), ci95=interval(drawn))


def _passages(cells: Cells, recipes: Sequence[Recipe], prose: Sheet) -> tuple[Array, Array]:
    """Return (recipes, n) negative log-likelihoods of the passages, nats, and (n,) their tokens."""
    read = [cells.read(recipe, prose) for recipe in recipes]
    costs = [[item.gold_nll for item in items or ()] for items in read]
    tokens = [item.choices[0].tokens for item in read[0] or ()]
    return np.array(costs, dtype=np.float64), np.array(tokens, dtype=np.float64)

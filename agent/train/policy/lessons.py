"""What the policy is taught: prompts of practice, what was right there, and how much each text counts.

Each text counts by what it gained above what is usual in its situation, so that what is gained much teaches more than
what is gained now and then. Where there are eight situations or more, none has more than a quarter of all weight, and
of eight texts or more none, as far as both can be had at once, so that the policy cannot do well by one alone. Each
situation is taught twice: at the first attempt, and behind attempts that failed there, as the policy meets it later
in a loop.

Source: CAO-LLM §2.4, G.5 (fine-tuning on what improves the model); weights, cap and histories are this project's.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from agent.train.policy.fine_tune import Lesson
from agent.train.policy.rest_em import Judge, Judged, Sample, kept
from agent.train.policy.selection import asked_of, measured_points
from agent.train.policy.settings import KEPT
from agent.train.policy.situations import Situation
from cao.files import canonical_json
from cao.strategies import Strategy
from cao.types import Trial
from policies.base import PolicyContext
from policies.messages import plain_json

GRID = -1
"""The iteration of what no policy drew: points of the grid."""

MOST_SHARE = 0.25
"""Of all weight, for a situation, and for a text over all; twice what it would have by number where there are few."""

ROUNDS = 100
"""In which the shares of situations and of texts are held, one after the other."""

FAILED = 3
"""Attempts of a lesson's history at most."""


def winners(
    practice: Mapping[str, Situation], drawn: Sequence[Sample], *, warm_start: bool, budget: int | None
) -> dict[str, list[Sample]]:
    """Return the samples that a fine-tuning learns from, situation by situation.

    After a warm start the grid's points stay among them: an iteration that finds one text must not unlearn the rest.

    Args:
        practice: name → a situation to learn in.
        drawn: samples of practice; none before the first iteration.
        warm_start: whether the grid is taught.
        budget: prompts that a strategy may train on, None for any number.
    """
    return kept([*drawn, *(_on_the_grid(practice, budget) if warm_start else ())], KEPT)


def _on_the_grid(practice: Mapping[str, Situation], budget: int | None) -> list[Sample]:
    """Return the grid's points that are known to improve the model in practice, as samples that nobody drew."""
    found = list[Sample]()
    for name, situation in practice.items():
        for point, judged in measured_points(situation):
            if judged.improved and not _too_much(point, budget):
                strategy, number = point.canonical(), len(found)
                text = plain_json(strategy, spaced=False)
                seen = {"iteration": GRID, "situation": name, "number": number, "raw": text, "valid": True}
                found.append(Sample(**seen, strategy=strategy, reward=1, judged=judged))
    return found


def within_budget(judge: Judge, budget: int | None) -> Judge:
    """Return a judge that tries nothing which costs too much: such a strategy earns nothing.

    Args:
        judge: tries strategies.
        budget: prompts that a strategy may train on, None for any number.
    """

    def judged(asked: Mapping[str, Sequence[Strategy]]) -> Iterator[tuple[str, list[Judged]]]:
        refused = {name: [_too_much(one, budget) for one in strategies] for name, strategies in asked.items()}
        tried = {
            name: [one for one, reason in zip(strategies, refused[name], strict=True) if not reason]
            for name, strategies in asked.items()
        }
        for name, worth in judge(tried):
            rewards = iter(worth)
            yield name, [Judged(improved=False, reason=r) if r else next(rewards) for r in refused[name]]

    return judged


def _too_much(strategy: Strategy, budget: int | None) -> str:
    passes = strategy.trained_on
    return f"not tried: trains on {passes} prompts, the budget is {budget}" if budget and passes > budget else ""


def lessons_of(
    situations: Mapping[str, Situation],
    won: Mapping[str, Sequence[Sample]],
    prompt: Callable[[PolicyContext], str],
) -> list[Lesson]:
    """Return the lessons of a fine-tuning, two a situation where something failed there.

    Args:
        situations: by name.
        won: situation → the samples that improved the model there.
        prompt: what the policy's model reads in a context.
    """
    weights = weights_of(won, {name: _usual(situations[name]) for name in won})
    lessons = []
    for name, samples in won.items():
        share = sum(weights[name])
        if share:
            here, counted = situations[name], [weight * len(samples) / share for weight in weights[name]]
            trials = failed_before(here, samples)
            for context in (here.context, here.after(trials))[: 2 if trials else 1]:
                lessons.append(Lesson(prompt(context), [sample.raw for sample in samples], counted, share))
    return lessons


def _usual(situation: Situation) -> float:
    """Return the median worth of the grid's points that were measured in a situation; 0 where none was.

    A point counts by the share of the answers that its worth is of: what was dropped early says little.
    """
    points = [(j.comparison.worth, asked_of(j, situation)) for _, j in measured_points(situation) if j.comparison]
    reached, half = 0.0, sum(asked for _, asked in points) / 2
    for worth, asked in sorted(points):
        reached += asked
        if reached >= half:
            return worth
    return 0.0


def weights_of(won: Mapping[str, Sequence[Sample]], usual: Mapping[str, float]) -> dict[str, list[float]]:
    """Return how much each sample counts, 1 on average over all of them.

    Args:
        won: situation → samples that improved the model there, each strategy once.
        usual: situation → the worth of a usual strategy there.
    """
    weights = {
        (name, canonical_json(sample.strategy)): max(0.0, sample.worth - usual[name])
        for name, samples in won.items()
        for sample in samples
    }
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1.0)
    for part in (0, 1) * ROUNDS:  # situations, then texts, which may put a situation above its share again
        sums = dict[str, float]()
        for key, weight in weights.items():
            sums[key[part]] = sums.get(key[part], 0.0) + weight
        most = _capped(sums, max(MOST_SHARE, 2 / max(1, len(sums))))
        weights = {key: weight and weight * most[key[part]] / sums[key[part]] for key, weight in weights.items()}
    mean = sum(weights.values()) / max(1, len(weights))
    return {
        name: [weights[name, canonical_json(sample.strategy)] / mean for sample in samples]
        for name, samples in won.items()
    }


def _capped(weights: Mapping[str, float], most: float) -> dict[str, float]:
    """Return weights none of which has more than a share of their sum, as near to the given ones as can be."""
    over, total = set[str](), sum(weights.values())
    while more := {name for name, weight in weights.items() if name not in over and weight > most * total * (1 + 1e-9)}:
        over |= more
        rest = sum(weight for name, weight in weights.items() if name not in over)
        if (left := 1 - most * len(over)) < 1e-9 or not rest:
            return dict.fromkeys(weights, 1.0)
        total = rest / left
    return {name: most * total if name in over else weight for name, weight in weights.items()}


def failed_before(situation: Situation, won: Sequence[Sample]) -> tuple[Trial, ...]:
    """Return one to three points of the grid that were tried in a situation in vain, as the attempts of a loop.

    Points of other families than what improves the model stand first: they are what the policy has to leave behind.

    Args:
        situation: where.
        won: the samples that improved the model there.
    """
    families = {str(sample.strategy["family"]) for sample in won if sample.strategy}
    vain = [(point.canonical(), each) for point, each in measured_points(situation) if not each.improved]
    draw = random.Random(situation.name)
    draw.shuffle(vain)
    vain.sort(key=lambda one: one[0]["family"] in families)
    return tuple(
        Trial(attempt=number, strategy=point, accepted=False, reason=each.reason, comparison=each.comparison)
        for number, (point, each) in enumerate(vain[: draw.randint(1, FAILED)], 1)
    )

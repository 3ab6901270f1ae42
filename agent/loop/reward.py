"""Rewards: a model is measured block by block, and a candidate without prospects is dropped.

Parts are in seeded random order already, which racing needs.
"""

import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.budget.plan import part_seconds
from agent.loop.answers import Answers, Measurement, items_folder
from agent.loop.state import State, Workbench, accepted_strategies
from cao.strategies import Strategy
from cao.strategy import restore_strategy
from cao.tasks.splits import MeasuredPart
from cao.types import AcceptRule, AdaptedModel, Comparison, Item
from tools.evaluate import save_items
from tools.evaluate.racing import FIRST_BLOCK, hopeless
from tools.evaluate.racing_members import FEW, alike, few_hopeless, flips, looks
from tools.evaluate.serving import serving_price
from tools.evaluate.statistics import (
    CONFIDENT_LEVEL,
    compare,
    least_gain,
    level_of_each,
    most_rise,
    prospects,
)
from tools.evaluate.written import are_written


class Bar(NamedTuple):
    """What a candidate must clear to be accepted, beside the rule.

    Attributes:
        level: one-sided, divided by the comparisons that a run may make of its kind.
        price: what it must gain besides, in nats or as a share of the questions, because it costs more to serve.
    """

    level: float = CONFIDENT_LEVEL
    price: float = 0.0


def measure_part(bench: Workbench, adapted: AdaptedModel, part: MeasuredPart, name: str) -> Measurement:
    """Measure a model on a whole part of the task and keep its items as ``items/<name>.jsonl``.

    Args:
        bench: the workbench.
        adapted: what to measure.
        part: ``reward`` or ``test``.
        name: of the file.

    Raises:
        NotApplicableError: the model's output is not finite.
    """
    measured = Answers(bench, adapted, part, name).whole()
    save_items(items_folder(bench) / f"{name}.jsonl", measured.items)
    return measured


def race_reward(
    bench: Workbench, candidate: AdaptedModel, best: list[Item], name: str, bar: Bar, besides: float = 0.0
) -> Measurement:
    """Measure a candidate on the reward part as ``measure_part`` does, but stop where it is hopeless.

    Args:
        bench: the workbench; its configuration says whether to race, at which error, and the rule of acceptance.
        candidate: what to measure.
        best: the items to beat, of the whole part.
        name: of the file.
        bar: what it must clear.
        besides: seconds of the test part for making the candidate anew, and by the models on the way to it.

    Raises:
        NotApplicableError: the candidate's output is not finite.
    """
    config, answers, started = bench.config, Answers(bench, candidate, "reward", name), time.monotonic()
    every = [(answers.of, end) for end in answers.ends[:-1]]
    path = looks(answers.of, answers.ends, few=_few_stand_for_all(answers, best, bench)) if config.racing else every
    error, why = config.racing_error / max(1, len(path)), ""
    for members, end in path:
        measured = answers.until(end, members)
        if config.racing and members == answers.of:
            why = hopeless(best, measured.items, config.accept, error, level=bar.level, price=bar.price)
        elif config.racing and _few_are_hopeless(answers, best, measured, error, bar, config.accept):
            why = f"{members} adapters show that all {answers.of} will hardly gain enough"
        each = _pace(bench, time.monotonic() - started, answers.fresh)
        if why := why or _too_late(bench, each, members * end, answers.of, besides):
            break
    else:
        measured = answers.whole()
    save_items(items_folder(bench) / f"{name}.jsonl", measured.items)
    agrees = None
    if why and config.racing_check:
        agrees = not compare(best, answers.whole().items, config.accept, level=bar.level, price=bar.price).accepted
    return replace(measured, dropped=why, agrees=agrees)


def _pace(bench: Workbench, seconds: float, fresh: int) -> float:
    """Return how long one adapter takes to answer one question, s: as seen here, or as planned where all were kept.

    Args:
        bench: the workbench.
        seconds: that all answers of this measurement took.
        fresh: how many of them were asked for and not kept ones; those took no time.
    """
    if fresh:
        return seconds / fresh
    part = bench.splits.reward
    return part_seconds(bench.speed, bench.task, part, bench.protocol) / len(part)


def _too_late(bench: Workbench, each: float, answered: int, of: int, besides: float) -> str:
    """Say that a time budget has no room for a candidate's other answers and for the test part, or return nothing.

    Args:
        bench: the workbench.
        each: seconds in which one of the candidate's adapters answers one question.
        answered: answers so far.
        of: adapters that answer each question.
        besides: seconds of the test part for making the candidate anew, and by the models on the way to it.
    """
    rest, test = besides + each * (len(bench.splits.reward) * of - answered), bench.splits.test
    both = part_seconds(bench.speed, bench.task, test, bench.protocol) + each * len(test) * of
    needed, left = rest + both, bench.clock.left
    if needed <= left:
        return ""
    return f"at its pace the rest and the test questions would take about {needed:.0f} s, {max(0, left):.0f} s are left"


def _few_stand_for_all(answers: Answers, best: list[Item], bench: Workbench) -> bool:
    """Return whether a few of a candidate's adapters should answer every question before the others begin."""
    if bench.config.accept == "any" or answers.of <= FEW or len(best) < FIRST_BLOCK:
        return False
    return alike(_member_changes(answers, best, answers.ends[0], FEW))


def _few_are_hopeless(
    answers: Answers, best: list[Item], measured: Measurement, error: float, bar: Bar, rule: AcceptRule
) -> bool:
    """Return whether all of a candidate's adapters are hopeless, by what a few of them answered."""
    end, total, ranked = len(measured.items), measured.total, not are_written(best, measured.items)
    level = level_of_each(rule, bar.level) if ranked else bar.level
    hopeless_by = partial(few_hopeless, members=measured.of, selecting=answers.selecting)
    losses, combined = _member_changes(answers, best, end, measured.members), prospects(best, measured.items)
    priced = losses + bar.price, combined + bar.price
    if ranked and not hopeless_by(*priced, total=total, error=error, least=least_gain(total, level)):
        return False
    if ranked and rule == "confident":
        return True
    each = [flips(best, answers.alone(member, end)) for member in range(measured.members)]
    right = np.stack(each) + bar.price, flips(best, measured.items) + bar.price
    if hopeless_by(*right, total=total + 1, error=error / 2, least=least_gain(total + 1, level)):
        return True
    return ranked and hopeless_by(losses, combined, total=total, error=error / 2, least=most_rise(total))


def price_of(state: State, bench: Workbench, candidate: AdaptedModel, strategy: Strategy) -> float:
    """Return what a candidate must gain besides, because it costs more to serve than the best so far; 0 by ``any``.

    Args:
        state: where the loop stands.
        bench: the workbench.
        candidate: what would be served.
        strategy: that made it.
    """
    if bench.config.accept == "any":  # the paper's reward is the sign of the accuracy's change alone
        return 0.0
    return serving_price(
        candidate,
        bench.adapted(state["best"]),
        bench.config.serving_price,
        transductive=strategy.transductive,
        best_transductive=any(restore_strategy(accepted).transductive for accepted in accepted_strategies(state)),
        same_choices="batch" in bench.priors,
    )


def judge(bench: Workbench, best: list[Item], measured: Measurement, bar: Bar) -> Comparison:
    """Compare a candidate with the best so far; one that was dropped is not accepted, whatever it looks like so far."""
    verdict = compare(
        best[: len(measured.items)], measured.items, bench.config.accept, level=bar.level, price=bar.price
    )
    return verdict.model_copy(update={"accepted": False}) if measured.dropped else verdict


def explain(verdict: Comparison, measured: Measurement) -> str:
    """Say in words what a candidate's verdict is and why."""
    change = f"accuracy {100 * verdict.accuracy_change:+.1f} points, log-loss {verdict.loss_change:+.4f}"
    if measured.dropped:
        by = "" if measured.members == measured.of else f" by {measured.members} of {measured.of} adapters"
        return f"dropped after {len(measured.items)} of {measured.total} questions{by}: {change}; {measured.dropped}"
    if verdict.rule == "any":
        told = "rule: accuracy higher"
    elif are_written(measured.items):
        told = f"one-sided p of the accuracy {verdict.accuracy_p_value:.3f}"
    else:
        told = f"one-sided p={verdict.loss_p_value:.3f}"
        told += f", of the accuracy {verdict.accuracy_p_value:.3f}" if verdict.rule == "either" else ""
        unseen = -(verdict.loss_change + verdict.price) < verdict.smallest
        if unseen and not verdict.accepted and verdict.loss_p_value <= level_of_each(verdict.rule, verdict.level):
            priced = f" and its price {verdict.price:.4f}" if verdict.price else ""
            told += f", below the smallest change that can be seen, {verdict.smallest:.4f}{priced}"
    return f"{'accepted' if verdict.accepted else 'not accepted'}: {change} ({told})"


def _member_changes(answers: Answers, best: list[Item], end: int, members: int) -> NDArray[np.float64]:
    """Return the paired differences of the loss, (members, end) float64, each adapter on its own."""
    return np.stack([prospects(best, answers.alone(member, end)) for member in range(members)])

"""What each fine-tuning of the policy learns from: its own winners, after a warm start the grid's; and what counts."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from agent.train.policy.lessons import failed_before, lessons_of, weights_of, winners
from agent.train.policy.rest_em import Judged, Sample
from cao.files import canonical_json
from cao.strategies import Strategy
from cao.strategy import parse_strategy
from cao.types import Trial
from policies.base import PolicyContext
from policies.grid import grid
from policies.messages import plain_json
from tests.agent.train.policy.test_rest_em import compared

TTL, LATENT = grid(["TTL"])[-1], grid(["Latent"])[0]

DRAWN = TTL.model_copy(update={"ttl_steps": 7})


QUESTIONS = 10


def gained(change: float, questions: int = QUESTIONS, members: float = 1.0) -> Judged:
    asked = {"questions": questions, "members": members}
    return Judged(improved=change < 0, reason="measured", comparison=compared(change), **asked)


def text(strategy: Strategy) -> str:
    return plain_json(strategy.canonical(), spaced=False)


def sample(strategy: Strategy, change: float, situation: str = "one") -> Sample:
    known = {"strategy": strategy.canonical(), "reward": 1, "judged": gained(change)}
    return Sample(iteration=0, situation=situation, number=0, raw=text(strategy), valid=True, **known)


class Place:
    """A situation in which some strategies were measured."""

    def __init__(self, name: str, known: Mapping[Strategy, Judged]) -> None:
        self.name, self.context = name, PolicyContext(task=name)
        self.bench = SimpleNamespace(splits=SimpleNamespace(reward=range(QUESTIONS)))
        self._known = {canonical_json(strategy.canonical()): judged for strategy, judged in known.items()}

    def known(self) -> dict[str, Judged]:
        return self._known

    def after(self, trials: Sequence[Trial]) -> PolicyContext:
        return self.context.model_copy(update={"history": tuple(trials)})


def practice() -> dict[str, Any]:
    return {
        "one": Place("one", {TTL: gained(-0.2), LATENT: gained(0.1)}),
        "two": Place("two", {TTL: gained(0.0), LATENT: gained(-0.3)}),
    }


def taught(drawn: Sequence[Sample], *, warm_start: bool, budget: int | None = None) -> dict[str, list[str]]:
    found = winners(practice(), drawn, warm_start=warm_start, budget=budget)
    return {name: [one.raw for one in samples] for name, samples in found.items()}


def test_an_iteration_after_a_warm_start_keeps_what_the_grid_taught() -> None:
    assert taught([], warm_start=True) == {"one": [text(TTL)], "two": [text(LATENT)]}
    both = taught([sample(DRAWN, -0.1)], warm_start=True)
    assert both == {"one": [text(TTL), text(DRAWN)], "two": [text(LATENT)]}  # the larger gain first


def test_without_a_warm_start_an_iteration_learns_from_its_samples_alone() -> None:
    assert taught([sample(DRAWN, -0.1)], warm_start=False) == {"one": [text(DRAWN)]}


def test_what_a_budget_refuses_is_not_taught_by_the_grid_either() -> None:
    assert taught([], warm_start=True, budget=TTL.trained_on - 1) == {"two": [text(LATENT)]}
    assert taught([], warm_start=True, budget=TTL.trained_on)["one"] == [text(TTL)]


def test_a_text_counts_by_what_it_gains_above_the_usual() -> None:
    """Above the usual .3, .1 and .02; of three texts one has two thirds at most: .24, .1, .02, with the mean .12."""
    a, b, c = grid(["TTL"])[:3]
    won = {"one": [sample(a, -0.4), sample(b, -0.2)], "two": [sample(c, -0.02, "two")]}
    weights = weights_of(won, {"one": 0.1, "two": 0.0})
    assert weights["one"] == pytest.approx([2, 0.1 / 0.12])
    assert weights["two"] == pytest.approx([0.02 / 0.12])


def test_no_situation_has_more_than_a_quarter_where_there_are_so_many() -> None:
    points = grid(["TTL", "Calibrate"])[:9]
    won = {str(i): [sample(point, -0.1 - 9 * (i == 0), str(i))] for i, point in enumerate(points)}
    weights = weights_of(won, dict.fromkeys(won, 0.0))
    assert weights["0"][0] == pytest.approx(0.25 * sum(map(sum, weights.values())))
    assert weights["1"] == weights["8"]


def test_no_text_has_more_than_a_quarter_where_there_are_so_many() -> None:
    points = grid(["TTL", "Calibrate"])[:9]
    pairs = {str(i): (points[0], point) for i, point in enumerate(points[1:])}
    often = {name: [sample(point, -0.1, name) for point in pair] for name, pair in pairs.items()}
    weights = weights_of(often, dict.fromkeys(often, 0.0))
    total = sum(map(sum, weights.values()))
    assert sum(each[0] for each in weights.values()) == pytest.approx(0.25 * total)
    assert total == pytest.approx(sum(map(len, weights.values())))
    alone = weights_of({"one": [sample(TTL, -0.1)], "two": [sample(TTL, -0.3, "two")]}, {"one": 0.0, "two": 0.0})
    assert [alone["one"][0], alone["two"][0]] == pytest.approx([0.5, 1.5])  # there is no other text


def test_neither_cap_undoes_the_other() -> None:
    """Ten situations that share twelve texts unequally: both shares can be held, and are."""
    points, draw = grid(["TTL", "Calibrate"])[:12], random.Random(0)
    for _ in range(50):
        won = {
            str(i): [sample(point, -draw.random(), str(i)) for point in draw.sample(points, draw.randint(2, 6))]
            for i in range(10)
        }
        weights = weights_of(won, dict.fromkeys(won, 0.0))
        total, by_text = sum(map(sum, weights.values())), Counter[str]()
        for name, samples in won.items():
            for each, weight in zip(samples, weights[name], strict=True):
                by_text[each.raw] += weight
        assert max(sum(each) for each in weights.values()) <= 0.25 * total + 1e-6
        assert max(by_text.values()) <= 0.25 * total + 1e-6


def test_what_gains_no_more_than_the_usual_still_counts_alike() -> None:
    assert weights_of({"one": [sample(TTL, -0.1), sample(LATENT, -0.1)]}, {"one": 0.5}) == {"one": [1.0, 1.0]}


def test_a_situation_is_taught_at_the_first_attempt_and_behind_failed_ones() -> None:
    won = winners(practice(), [], warm_start=True, budget=None)
    lessons = lessons_of(practice(), won, lambda context: context.model_dump_json())
    contexts = [PolicyContext.model_validate_json(lesson.prompt) for lesson in lessons]
    assert [context.task for context in contexts] == ["one", "one", "two", "two"]
    assert [len(context.history) for context in contexts] == [0, 1, 0, 1]
    assert contexts[1].history[0].strategy == LATENT.canonical()
    assert contexts[3].history[0].strategy == TTL.canonical()
    assert all(lesson.weights == [1.0] for lesson in lessons)
    assert [lesson.share for lesson in lessons] == pytest.approx([1] * 4)  # .3 above the lower of two in both
    for lesson, context in zip(lessons, contexts, strict=True):
        assert not context.spent & {canonical_json(parse_strategy(reply).canonical()) for reply in lesson.replies}


def test_what_was_dropped_early_hardly_counts_for_what_is_usual() -> None:
    """.3 and .1 of all answers, -.2 of a tenth and of a fifth of half: .1 is usual, and gains nothing above it."""
    best, other, *dropped = grid(["TTS"])[:4]
    known = {best: gained(-0.3), other: gained(-0.1), dropped[0]: gained(0.2, 1), dropped[1]: gained(0.2, 5, 0.2)}
    here = {"one": Place("one", known)}
    won = winners(here, [], warm_start=True, budget=None)  # type: ignore[arg-type]
    assert [sample.raw for sample in won["one"]] == [text(best), text(other)]
    first, *_ = lessons_of(here, won, lambda context: context.task)  # type: ignore[arg-type]
    assert first.weights == [2.0, 0.0]


def test_of_what_failed_other_families_stand_first_and_what_could_not_act_has_no_part() -> None:
    known: dict[Strategy, Judged] = {point: gained(0.1) for point in grid(["TTL", "Calibrate"])}
    known |= {point: Judged(improved=False, reason="cannot act") for point in grid(["TTS"])}
    known[TTL] = gained(-0.2)
    trials = failed_before(Place("one", known), [sample(TTL, -0.2)])  # type: ignore[arg-type]
    assert 1 <= len(trials) <= 3
    assert [trial.attempt for trial in trials] == list(range(1, len(trials) + 1))
    assert {str(trial.strategy["family"]) for trial in trials if trial.strategy} == {"Calibrate"}
    assert trials == failed_before(Place("one", known), [sample(TTL, -0.2)])  # type: ignore[arg-type]
    assert failed_before(SimpleNamespace(name="x", known=dict, context=PolicyContext()), []) == ()  # type: ignore[arg-type]

"""What each fine-tuning of the policy learns from: its own winners, and after a warm start the grid's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.train.policy.rest_em import Judged, Sample, SampleLog
from agent.train.policy.run import winners
from cao.files import canonical_json
from cao.strategies import FAMILIES, Strategy
from policies.grid import grid
from policies.messages import plain_json
from tests.agent.train.policy.test_rest_em import compared

TTL, LATENT = grid(["TTL"])[-1], grid(["Latent"])[0]

DRAWN = TTL.model_copy(update={"ttl_steps": 7})


def gained(change: float) -> Judged:
    return Judged(improved=change < 0, reason="measured", comparison=compared(change))


def text(strategy: Strategy) -> str:
    return plain_json(strategy.canonical(), spaced=False)


def practice(tmp_path: Path, *, warm: bool, budget: int | None = None) -> Any:
    """A training with two situations and one drawn winner."""
    known = {
        "one": {TTL: gained(-0.2), LATENT: gained(0.1)},
        "two": {TTL: gained(0.0), LATENT: gained(-0.3)},
    }
    situations = {
        name: SimpleNamespace(
            known=lambda each=each: {canonical_json(s.canonical()): judged for s, judged in each.items()},
            context=SimpleNamespace(families=tuple(FAMILIES)),
        )
        for name, each in known.items()
    }
    log = SampleLog(tmp_path / "samples.jsonl")
    log.samples.append(
        Sample(
            iteration=0,
            situation="one",
            number=0,
            raw=text(DRAWN),
            valid=True,
            strategy=DRAWN.canonical(),
            reward=1,
            judged=gained(-0.1),
        )
    )
    settings = SimpleNamespace(warm_start=warm, budget=budget)
    return SimpleNamespace(settings=settings, situations=situations, practice=("one", "two"), log=log)


def test_an_iteration_after_a_warm_start_keeps_what_the_grid_taught(tmp_path: Path) -> None:
    training = practice(tmp_path, warm=True)
    assert winners(training, []) == {"one": [text(TTL)], "two": [text(LATENT)]}
    assert winners(training, training.log.samples) == {
        "one": [text(TTL), text(DRAWN)],
        "two": [text(LATENT)],
    }  # the larger gain first


def test_without_a_warm_start_an_iteration_learns_from_its_samples_alone(tmp_path: Path) -> None:
    training = practice(tmp_path, warm=False)
    assert winners(training, training.log.samples) == {"one": [text(DRAWN)]}


def test_what_a_budget_refuses_is_not_taught_by_the_grid_either(tmp_path: Path) -> None:
    assert winners(practice(tmp_path, warm=True, budget=TTL.trained_on - 1), []) == {"two": [text(LATENT)]}
    assert winners(practice(tmp_path, warm=True, budget=TTL.trained_on), [])["one"] == [text(TTL)]

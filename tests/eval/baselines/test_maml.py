"""MAML-en-LLM: one optimiser for both loops, and steps that can be checked by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cao.model.language_model import LanguageModel
from eval.baselines.maml import MamlSettings, episode, meta_step
from eval.baselines.objective import Objective
from tests.tools.tiny_training import TASKS

RATE = 0.1
QUADRATIC = MamlSettings(inner_rate=RATE, outer_rate=RATE, decay=0.0, clip=1e9)


def bowl(live: dict[str, Tensor], centre: float, seen: list[float] | None = None) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        if seen is not None:
            seen.append(float(live["w"].detach()))
        return 0.5 * (live["w"] - centre).square().sum()

    return loss


def adam(w: float, gradient: float, m: float, v: float, step: int) -> tuple[float, float, float]:
    """One step of Adam by hand arithmetic."""
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    moved = w - RATE * (m / (1 - 0.9**step)) / (math.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return moved, m, v


def test_both_steps_on_a_quadratic_are_adams_by_hand_and_the_outer_one_begins_where_the_inner_one_did() -> None:
    w, m, v = 2.0, 0.0, 0.0
    live = {"w": torch.tensor([w], dtype=torch.float64, requires_grad=True)}
    optimizer, seen = QUADRATIC.adamw(live), list[float]()
    for number in range(3):
        meta_step(live, [bowl(live, 0.5, seen)], bowl(live, 3.0, seen), optimizer, QUADRATIC)
        inner, m, v = adam(w, w - 0.5, m, v, 2 * number + 1)
        assert seen[-2:] == pytest.approx([w, inner], abs=1e-12)
        w, m, v = adam(w, inner - 3.0, m, v, 2 * number + 2)
        assert float(live["w"].detach()) == pytest.approx(w, abs=1e-12)


def test_without_shared_moments_the_trajectory_is_another() -> None:
    ends = []
    for shared in (True, False):
        settings = QUADRATIC.model_copy(update={"shared": shared})
        live = {"w": torch.tensor([2.0], dtype=torch.float64, requires_grad=True)}
        optimizer = settings.adamw(live)
        for _ in range(5):
            meta_step(live, [bowl(live, 0.5)], bowl(live, 3.0), optimizer, settings)
        ends.append(float(live["w"].detach()))
    w, m, v = 2.0, 0.0, 0.0
    for number in range(5):
        inner, _, _ = adam(w, w - 0.5, 0.0, 0.0, 1)
        w, m, v = adam(w, inner - 3.0, m, v, number + 1)
    assert ends[1] == pytest.approx(w, abs=1e-12)
    assert abs(ends[0] - ends[1]) > 0.01


def test_a_gradient_beyond_the_norm_is_clipped_before_either_step() -> None:
    settings = QUADRATIC.model_copy(update={"clip": 1.0})
    live = {"w": torch.tensor([100.0], dtype=torch.float64, requires_grad=True)}
    optimizer = settings.adamw(live)
    meta_step(live, [bowl(live, 0.0)], bowl(live, 0.0), optimizer, settings)
    assert float(optimizer.state[live["w"]]["exp_avg"]) == pytest.approx(0.9 * 0.1 + 0.1)


def test_an_episode_takes_one_task_and_no_question_twice(tiny_lm: LanguageModel) -> None:
    pools = [Objective().rows(tiny_lm, task, task.load(), 64) for task in TASKS.values()]
    for number in range(8):
        inner, outer = episode(pools, 2, 3, f"{number}")
        drawn = [id(row) for rows in (*inner, outer) for row in rows]
        assert [len(rows) for rows in (*inner, outer)] == [3, 3, 3]
        assert len(set(drawn)) == 9
        assert sum(set(drawn) <= {id(row) for row in pool} for pool in pools) == 1
    assert episode(pools, 1, 1, "a") == episode(pools, 1, 1, "a")


def test_the_papers_settings_are_appendix_hs() -> None:
    paper = MamlSettings()
    assert (paper.inner_rate, paper.outer_rate, paper.clip, paper.decay) == (1e-5, 1e-5, 1.0, 0.01)
    assert (paper.betas, paper.eps, paper.inner_steps, paper.batch) == ((0.9, 0.999), 1e-8, 1, 1)
    assert (paper.epochs, paper.extent.steps, paper.support, paper.testing.steps) == (10, 50_000, 25, 10)
    assert set(paper.targets) == {"q_proj", "v_proj", "o_proj"}

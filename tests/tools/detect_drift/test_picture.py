"""What is drawn of a drift report: it says what the report says."""

import numpy as np
import pytest
import torch

from tests.tools.detect_drift.clouds import cloud, tasks, texts
from tools.detect_drift import detect_drift
from tools.detect_drift.picture import DRAWS, MOST_POINTS, drift_picture


def test_a_window_lies_within_the_null_of_its_own_task_and_beyond_that_of_another() -> None:
    window, known = cloud(0, 20), tasks(near=cloud(1, 120), far=cloud(2, 80, shift=3))
    drawn, report = drift_picture(texts(20), window, known), detect_drift(texts(20), window, known)
    near, far = drawn.tasks["near"], drawn.tasks["far"]
    assert near.low < near.observed < near.high < far.observed
    assert far.observed > far.high
    for name, task in drawn.tasks.items():
        assert task.observed == pytest.approx(report.known[name].distance, abs=1e-6)
        assert sum(task.null) == DRAWS
    assert [len(task.points) for task in (near, far)] == [MOST_POINTS, 40]


def test_the_plane_keeps_apart_what_lies_apart() -> None:
    """Three means span a plane: their distances in it are their distances."""
    window = cloud(0, 30, shift=-4)
    a, b = cloud(1, 100), cloud(2, 100, shift=4)
    drawn = drift_picture(texts(30), window, tasks(a=a, b=b))
    flat = np.array([np.mean([one.at for one in drawn.prompts], axis=0), *(it.centre for it in drawn.tasks.values())])
    whole = torch.stack([rows.mean(0) for rows in (window, a, b)])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(flat[i] - flat[j]) == pytest.approx((whole[i] - whole[j]).norm().item(), abs=1e-3)


def test_prompts_that_are_not_tested_are_not_drawn_and_texts_are_cut() -> None:
    prompts = [*texts(10), "question number 3", " ", "long " * 100]
    drawn = drift_picture(prompts, cloud(0, 13), tasks(a=cloud(1, 40)))
    told = [one.text for one in drawn.prompts]
    assert set(told[1:]) == set(texts(10))
    assert [len(told[0]), len(told)] == [160, 11]


def test_it_is_the_same_each_time_and_without_prompts_there_is_none() -> None:
    known = tasks(a=cloud(1, 40), b=cloud(2, 40, shift=2))
    assert drift_picture(texts(9), cloud(0, 9), known) == drift_picture(texts(9), cloud(0, 9), known)
    empty = drift_picture(["", " "], cloud(0, 2), known)
    assert (empty.prompts, empty.tasks) == ((), {})


@pytest.mark.parametrize(("n", "channels"), [(1, 8), (3, 1), (2, 2)])
def test_few_prompts_or_numbers_are_drawn_too(n: int, channels: int) -> None:
    rows = cloud(0, n, channels=channels) if channels > 1 else torch.linspace(0.1, 0.9, n)[:, None]
    known = tasks(a=cloud(1, 20, channels=channels) if channels > 1 else torch.linspace(-1, 1, 20)[:, None])
    drawn = drift_picture(texts(n), rows, known)
    assert len(drawn.prompts) >= 1
    assert all(np.isfinite(one.at).all() for one in drawn.prompts)

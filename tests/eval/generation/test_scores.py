"""What a task's answers say, by hand."""

import numpy as np
import pytest

from eval.generation.bootstrap import Answers, Draws
from eval.generation.scores import CONTROLS, JUDGED, TaskAnswers, aims, averages, task_scores
from tests.eval.generation.parts import answers


def measured(**changed: Answers) -> TaskAnswers:
    base = answers(([10.0] * 8, [0] * 8))
    good, fair = answers(([6.0] * 8, [1] * 8), ([6.0] * 8, [1] * 8)), answers(([8.0] * 8, [1] * 4 + [0] * 4))
    rows = {"base": base, "generated": good, "aligned": good, **dict.fromkeys(CONTROLS, fair)}
    rows |= {"checkpoint": answers(([5.0] * 8, [1] * 8)), "seen": good, **changed}
    return TaskAnswers(rows, Draws.make(8, 2, np.random.default_rng(0), 200))


def test_a_task_is_judged_against_base_and_every_control() -> None:
    scores = task_scores(measured(), in_domain=True)
    assert scores.n == 8
    assert scores.rows["generated"].change.nll == pytest.approx(-0.4)
    assert scores.rows["generated"].change.nll_ci95 == pytest.approx((-0.4, -0.4))
    assert scores.rows["mean"].accuracy == 0.5
    assert "change" not in scores.rows["base"].model_dump()
    assert set(scores.versus["generated"]) == set(CONTROLS)
    assert set(scores.versus["aligned"]) == {*CONTROLS, "generated"}
    assert scores.versus["generated"]["wrong"].nll == pytest.approx(-0.2)
    tests = scores.tests["aligned"]
    assert (tests.gained, tests.lost) == (8, 0)
    assert tests.mcnemar_p == pytest.approx(2 * 0.5**8)
    assert scores.recovery["seen"].ratio == pytest.approx(0.8)
    assert task_scores(measured(), in_domain=False).recovery is None


def test_aims_count_tasks_and_average_the_recovery() -> None:
    worse = answers(([11.0] * 8, [0] * 8))
    all_measured = {"one": measured(), "two": measured(generated=worse, seen=answers(([7.5] * 8, [1] * 8)))}
    tasks = {name: task_scores(each, in_domain=True) for name, each in all_measured.items()}
    counts = aims(tasks, all_measured)
    assert counts.tasks == 2
    assert counts.generated.below_base == counts.generated.surely_below_base == ("one",)
    assert counts.generated.below == {control: ("one",) for control in CONTROLS}
    assert counts.generated.points == pytest.approx(50)
    assert counts.aligned.below_base == ("one", "two")
    assert counts.generated.worse == ()
    assert counts.recovery["seen"].ratio == pytest.approx((0.8 + 0.5) / 2)
    mean = averages(list(all_measured.values()))
    assert mean["generated"].nll == pytest.approx((0.6 + 1.1) / 2)
    assert mean["generated"].change.nll == pytest.approx(-0.15)


def test_a_task_that_lost_two_points_is_named() -> None:
    base = answers(([10.0] * 50, [1] * 50))
    lost = answers(([9.0] * 50, [0] + [1] * 49))
    rows = {"base": base, **dict.fromkeys((*JUDGED, *CONTROLS), lost)}
    one = TaskAnswers(rows, Draws.make(50, 1, np.random.default_rng(0), 100))
    counts = aims({"one": task_scores(one, in_domain=False)}, {"one": one})
    assert counts.aligned.worse == ("one",)
    assert counts.recovery == {"seen": None, "generated": None, "aligned": None}

"""What a task's answers say, by hand."""

import numpy as np
import pytest

from eval.generation.bootstrap import Answers, Draws
from eval.generation.scores import JUDGED, TaskAnswers, group, mean_recoveries, task_scores
from tests.eval.generation.parts import answers, items

CONTROLS = ("mean", "nearest", "union", "wrong", "shuffled", "no prompts")


def measured(**changed: Answers) -> TaskAnswers:
    base = answers(([10.0] * 8, [0] * 8))
    good, fair = answers(([6.0] * 8, [1] * 8), ([6.0] * 8, [1] * 8)), answers(([8.0] * 8, [1] * 4 + [0] * 4))
    rows = {"base": base, "generated": good, "aligned": good, **dict.fromkeys(CONTROLS, fair)}
    rows |= {"checkpoint": answers(([5.0] * 8, [1] * 8)), "seen": good, **changed}
    return TaskAnswers(rows, Draws.make(8, 2, np.random.default_rng(0), 200))


def test_a_task_is_judged_against_base_and_every_control() -> None:
    scores = task_scores(measured())
    assert scores.n == 8
    assert scores.rows["generated"].change.nll == pytest.approx(-0.4)
    assert scores.rows["generated"].change.nll_ci95 == pytest.approx((-0.4, -0.4))
    assert scores.rows["generated"].change.log_loss == pytest.approx(-0.4)
    assert scores.rows["mean"].accuracy == 0.5
    assert "change" not in scores.rows["base"].model_dump()
    controls = {"base", *CONTROLS, "checkpoint", "seen"}
    assert set(scores.versus["generated"]) == controls
    assert set(scores.versus["aligned"]) == {*controls, "generated"}
    assert scores.versus["generated"]["wrong"].nll == pytest.approx(-0.2)
    assert scores.versus["generated"]["wrong"].accuracy == pytest.approx(0.5)
    tests = scores.tests["aligned"]
    assert (tests.gained, tests.lost) == (8, 0)
    assert tests.mcnemar_p == pytest.approx(2 * 0.5**8)
    assert scores.recovery["seen"].ratio == pytest.approx(0.8)


def test_without_a_checkpoint_nothing_is_recovered_and_without_an_aligner_nothing_is_aligned() -> None:
    whole = measured()
    rows = {kind: kept for kind, kept in whole.answers.items() if kind not in ("checkpoint", "aligned")}
    scores = task_scores(TaskAnswers(rows, whole.draws))
    assert scores.recovery is None
    assert list(scores.tests) == list(scores.versus) == ["generated"]
    assert mean_recoveries({"one": scores}, {"one": TaskAnswers(rows, whole.draws)}) == {}


def test_a_change_is_between_the_best_rules_of_both_sides() -> None:
    """By the default rule the adapter gains everything; the base model by its own best rule is as good already."""
    nothing, everything = items([10.0] * 8, [0] * 8), items([10.0] * 8, [1] * 8)
    rows = {"base": Answers.of([nothing], [everything]), "generated": Answers.of([everything])}
    row = task_scores(TaskAnswers(rows, Draws.make(8, 1, np.random.default_rng(0), 50))).rows["generated"]
    assert row.change.accuracy == 0
    assert row.default_accuracy == row.accuracy == 1.0


def test_a_group_counts_tasks_and_averages_changes_and_recoveries() -> None:
    worse = answers(([11.0] * 8, [0] * 8))
    tasks = {"one": measured(), "two": measured(generated=worse, seen=answers(([7.5] * 8, [1] * 8)))}
    scores = {name: task_scores(each) for name, each in tasks.items()}
    found = group(scores, tasks)
    generated, aligned = (found.aims[kind] for kind in JUDGED)
    assert found.tasks == ("one", "two")
    assert generated.against["base"].below == generated.against["base"].surely_below == ("one",)
    assert {generated.against[control].below for control in CONTROLS} == {("one",)}
    assert generated.against["base"].change.accuracy == pytest.approx(0.5)
    assert generated.against["base"].change.accuracy_ci95 == pytest.approx((0, 1))  # which of the tasks are drawn
    assert aligned.against["base"].below == ("one", "two")
    assert aligned.against["generated"].change.accuracy == pytest.approx(0.5)
    assert generated.worse == ()
    mean = mean_recoveries(scores, tasks)["seen"]
    assert mean.ratio == pytest.approx((0.8 + 0.5) / 2)
    assert mean.ci95 == pytest.approx((0.5, 0.8))  # tasks are drawn: each is the same for all questions
    assert found.average["generated"].nll == pytest.approx((0.6 + 1.1) / 2)
    assert found.average["generated"].change.nll == pytest.approx(-0.15)


def test_a_control_that_some_tasks_lack_is_compared_on_those_that_have_it() -> None:
    whole = measured()
    fewer = TaskAnswers({kind: kept for kind, kept in whole.answers.items() if kind != "union"}, whole.draws)
    tasks = {"one": whole, "two": fewer}
    found = group({name: task_scores(each) for name, each in tasks.items()}, tasks)
    assert found.aims["generated"].against["union"].tasks == 1
    assert found.aims["generated"].against["wrong"].tasks == 2
    assert (found.average["union"].tasks, found.average["wrong"].tasks) == (1, 2)


def test_a_judged_kind_that_some_tasks_lack_is_judged_on_those_that_have_it() -> None:
    whole = measured()
    fewer = TaskAnswers({kind: kept for kind, kept in whole.answers.items() if kind != "aligned"}, whole.draws)
    tasks = {"one": whole, "two": fewer}
    aims = group({name: task_scores(each) for name, each in tasks.items()}, tasks).aims
    assert aims["generated"].against["base"].tasks == 2
    assert {contrast.tasks for contrast in aims["aligned"].against.values()} == {1}
    assert aims["aligned"].against["base"].below == ("one",)


def test_a_task_that_lost_two_points_is_named() -> None:
    base = answers(([10.0] * 50, [1] * 50))
    lost = answers(([9.0] * 50, [0] + [1] * 49))
    rows = {"base": base, **dict.fromkeys(JUDGED, lost)}
    one = {"one": TaskAnswers(rows, Draws.make(50, 1, np.random.default_rng(0), 100))}
    assert group({"one": task_scores(one["one"])}, one).aims["aligned"].worse == ("one",)

"""The arithmetic behind the tables: draws, changes, recovery, cosines, cells, recipes, cost."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.tasks import TASKS
from cao.tasks.splits import choose, part, split
from cao.types import Item
from eval.bench.cost import count
from eval.generation import cells as cells_module
from eval.generation.bootstrap import Answers, Draws, interval, recovered, recovery
from eval.generation.cells import BASE, Cells, Recipe
from eval.generation.cosines import centred, cosines, gram, halves
from eval.generation.recipes import REPORTED, others, shuffled
from eval.generation.scores import CONTROLS, JUDGED, Measured, aims, averages, judge


def items(nll: list[float], correct: list[int], chars: int = 10) -> list[Item]:
    return [
        Item(id=f"q{i}", choice=0, gold=0, correct=bool(right), loss=value / 10, gold_nll=value, gold_chars=chars)
        for i, (value, right) in enumerate(zip(nll, correct, strict=True))
    ]


def answers(*seeds: tuple[list[float], list[int]]) -> Answers:
    return Answers.of([items(*seed) for seed in seeds])


def everything(questions: list[list[int]], seeds: list[list[int]]) -> Draws:
    return Draws(np.array(questions, dtype=np.float64), np.array(seeds, dtype=np.float64))


# bootstrap -----------------------------------------------------------------------------------------------------------


def test_answers_by_hand() -> None:
    """Seeds 1, 3 | 3, 5 nats over 10 characters each: mean 2 + 4 nats over 20 characters."""
    found = answers(([1.0, 3.0], [1, 0]), ([3.0, 5.0], [1, 1]))
    assert (found.n, found.seeds) == (2, 2)
    assert found.nll_per_char == pytest.approx(0.3)
    assert found.accuracy == 0.75
    assert found.log_loss == pytest.approx(0.3)


def test_answers_to_other_questions_are_no_seeds_of_one_another() -> None:
    with pytest.raises(AssertionError, match="other questions"):
        Answers.of([items([1.0], [1]), [items([1.0, 2.0], [1, 1])[1]]])


def test_draws_by_hand() -> None:
    """Question 0 twice and question 1 never, seed 1 twice and seed 0 never; then everything once."""
    draws = everything([[2, 0], [1, 1]], [[0, 2], [1, 1]])
    found = answers(([1.0, 3.0], [1, 0]), ([3.0, 5.0], [0, 1]))
    assert draws.nll_per_char(found).tolist() == pytest.approx([0.3, 0.3])
    assert draws.accuracy(found).tolist() == pytest.approx([0.0, 0.5])
    base = answers(([2.0, 4.0], [1, 1]))  # one seed stands beside any draw of seeds
    assert draws.nll_per_char(base).tolist() == pytest.approx([0.2, 0.3])


@bounded(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 9))
def test_a_draw_has_as_many_questions_and_seeds_as_there_are(n: int, seeds: int, seed: int) -> None:
    draws = Draws.make(n, seeds, np.random.default_rng(seed), 50)
    assert draws.questions.shape == (50, n)
    assert set(draws.questions.sum(1).tolist()) == {float(n)}
    assert set(draws.seeds.sum(1).tolist()) == {float(seeds)}


def test_the_interval_of_a_paired_difference_holds_its_level() -> None:
    """What makes a question hard cancels: a difference of .5 ± .2 nats is seen beside a spread of 5, at its level."""
    rng, covered, runs = np.random.default_rng(0), 0, 200
    for _ in range(runs):
        hardness = rng.normal(20, 5, 60)
        base, made = hardness, hardness - 0.5 + rng.normal(0, 0.2, 60)
        draws = Draws.make(60, 1, rng, 400)
        pair = [answers((values.tolist(), [1] * 60)) for values in (made, base)]
        low, high = interval(draws.nll_per_char(pair[0]) - draws.nll_per_char(pair[1]))
        assert high - low < 0.03
        covered += low <= -0.05 <= high
    assert 0.89 <= covered / runs <= 0.99


def test_recovery_by_hand() -> None:
    assert recovery(1.0, 0.6, 0.5) == pytest.approx(0.8)
    assert recovery(1.0, 1.2, 0.5) == pytest.approx(-0.4)
    assert recovery(1.0, 0.6, 1.0) is None
    base, made, best = answers(([2.0, 2.0], [1, 1])), answers(([1.0, 2.0], [1, 1])), answers(([0.0, 3.0], [1, 1]))
    draws = everything([[2, 0], [0, 2], [1, 1]], [[1]] * 3)
    found = recovered(draws, base, made, best)  # in the second draw the checkpoint gains nothing
    assert found.tolist() == pytest.approx([0.5, 1.0])


# judgement -----------------------------------------------------------------------------------------------------------


def measured(**changed: Answers) -> Measured:
    base = answers(([10.0] * 8, [0] * 8))
    good, fair = answers(([6.0] * 8, [1] * 8), ([6.0] * 8, [1] * 8)), answers(([8.0] * 8, [1] * 4 + [0] * 4))
    rows = {"base": base, "generated": good, "aligned": good, **dict.fromkeys(CONTROLS, fair)}
    rows |= {"checkpoint": answers(([5.0] * 8, [1] * 8)), "seen": good, **changed}
    return Measured(rows, Draws.make(8, 2, np.random.default_rng(0), 200))


def test_a_task_is_judged_against_base_and_every_control() -> None:
    said = judge(measured(), in_domain=True)
    assert said["n"] == 8
    assert said["rows"]["generated"]["change"]["nll"] == pytest.approx(-0.4)
    assert said["rows"]["generated"]["change"]["nll_ci95"] == pytest.approx([-0.4, -0.4])
    assert said["rows"]["mean"]["accuracy"] == 0.5
    assert "change" not in said["rows"]["base"]
    assert set(said["versus"]["generated"]) == set(CONTROLS)
    assert set(said["versus"]["aligned"]) == {*CONTROLS, "generated"}
    assert said["versus"]["generated"]["wrong"]["nll"] == pytest.approx(-0.2)
    tests = said["tests"]["aligned"]
    assert (tests["gained"], tests["lost"]) == (8, 0)
    assert tests["mcnemar_p"] == pytest.approx(2 * 0.5**8)
    assert said["recovery"]["seen"]["ratio"] == pytest.approx(0.8)
    assert judge(measured(), in_domain=False)["recovery"] is None


def test_aims_count_tasks_and_average_the_recovery() -> None:
    worse = answers(([11.0] * 8, [0] * 8))
    all_measured = {"one": measured(), "two": measured(generated=worse, seen=answers(([7.5] * 8, [1] * 8)))}
    tasks = {name: judge(each, in_domain=True) for name, each in all_measured.items()}
    found = aims(tasks, all_measured)
    assert found["tasks"] == 2
    assert found["generated"]["below_base"] == found["generated"]["surely_below_base"] == ["one"]
    assert found["generated"]["below"] == {control: ["one"] for control in CONTROLS}
    assert found["generated"]["points"] == pytest.approx(50)
    assert found["aligned"]["below_base"] == ["one", "two"]
    assert found["generated"]["worse"] == []
    assert found["recovery"]["seen"]["ratio"] == pytest.approx((0.8 + 0.5) / 2)
    mean = averages(all_measured)
    assert mean["generated"]["nll"] == pytest.approx((0.6 + 1.1) / 2)
    assert mean["generated"]["change"]["nll"] == pytest.approx(-0.15)


def test_a_task_that_lost_two_points_is_named() -> None:
    base = answers(([10.0] * 50, [1] * 50))
    lost = answers(([9.0] * 50, [0] + [1] * 49))
    rows = {"base": base, **dict.fromkeys((*JUDGED, *CONTROLS), lost)}
    one = Measured(rows, Draws.make(50, 1, np.random.default_rng(0), 100))
    found = aims({"one": judge(one, in_domain=False)}, {"one": one})
    assert found["aligned"]["worse"] == ["one"]
    assert found["recovery"] == {"seen": None, "generated": None, "aligned": None}


# cosines -------------------------------------------------------------------------------------------------------------


def adapter(seed: int, scale: float = 1.0) -> LoraWeights:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for module, out, into in (("layers.0.q", 6, 5), ("layers.0.o", 5, 6)):
        tensors[f"{module}.lora_A.weight"] = torch.randn(2, into, generator=generator)
        tensors[f"{module}.lora_B.weight"] = scale * torch.randn(out, 2, generator=generator)
    return LoraWeights(2, 8, ("q", "o"), tensors, "0" * 64, {})


def delta(weights: LoraWeights) -> torch.Tensor:
    """ΔW = (α/r)·B·A of all modules, one after the other."""
    parts = [
        weights.alpha / weights.rank * weights.tensors[f"{m}.lora_B.weight"] @ weights.tensors[f"{m}.lora_A.weight"]
        for m in weights.modules()
    ]
    return torch.cat([each.flatten() for each in parts]).double()


def test_inner_products_are_those_of_the_whole_matrices() -> None:
    three = [adapter(seed) for seed in range(3)]
    flat = torch.stack([delta(weights) for weights in three])
    assert torch.allclose(torch.from_numpy(gram(three)), flat @ flat.T, rtol=1e-5)
    left = flat - flat.mean(0)
    assert torch.allclose(torch.from_numpy(centred(gram(three))), left @ left.T, rtol=1e-4, atol=1e-4)
    wanted = torch.nn.functional.normalize(flat, dim=1)
    assert torch.allclose(torch.from_numpy(cosines(gram(three))), wanted @ wanted.T, atol=1e-6)


def test_an_adapter_of_length_zero_is_like_none() -> None:
    found = cosines(gram([adapter(0), adapter(1, scale=0.0)]))
    assert found[0, 0] == pytest.approx(1)
    assert found[1].tolist() == [0, 0]


def test_halves_compare_different_prompts_only() -> None:
    """Rows: task 0 and 1 from their first prompts, then from their second."""
    found = np.array([[1, 9, 0.8, 0.2], [9, 1, 0.4, 0.6], [0.8, 0.4, 1, 9], [0.2, 0.6, 9, 1]])
    assert halves(found) == pytest.approx(np.array([[0.8, 0.3], [0.3, 0.6]]))


# cells ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cells(tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    questions = {task: part(TASKS[task], "support")[:3] for task in ("arc_easy", "piqa")}
    made = Cells(tmp_path / "cells", tiny_lm, questions, lambda job, seconds: None)
    evaluate, told = cells_module.evaluate, list[str]()
    monkeypatch.setattr(
        cells_module, "evaluate", lambda task, *a, **k: told.append(task.name) or evaluate(task, *a, **k)
    )
    made.told = told  # type: ignore[attr-defined]
    return made


def test_a_scored_cell_is_never_scored_again(cells: Cells) -> None:
    wanted = [(Recipe(BASE), "arc_easy"), (Recipe(BASE), "piqa"), (Recipe(BASE), "piqa")]
    missing = cells.missing(wanted)
    assert list(missing.values()) == [["arc_easy", "piqa"]]
    cells.score(missing)
    assert cells.missing(wanted) == {}
    again = Cells(cells.folder, cells.lm, cells.questions, cells.finished)
    assert again.missing(wanted) == {}
    found = again.read(Recipe(BASE), "piqa")
    assert found is not None
    assert [item.id for item in found] == [example.id for example in cells.questions["piqa"]]
    assert cells.told == ["arc_easy", "piqa"]  # type: ignore[attr-defined]


def test_damaged_cells_and_other_questions_are_scored_again(cells: Cells) -> None:
    wanted = [(Recipe(BASE), "piqa")]
    cells.score(cells.missing(wanted))
    path = cells.folder / "piqa" / "base.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert cells.missing(wanted)
    path.write_bytes(whole)
    assert not cells.missing(wanted)
    fewer = Cells(cells.folder, cells.lm, {"piqa": cells.questions["piqa"][:2]}, cells.finished)
    assert fewer.missing(wanted)


def test_two_recipes_of_one_adapter_share_a_cell_and_other_adapters_do_not(cells: Cells) -> None:
    start = cells.lm.fresh_lora(0)
    once, twice, other = (
        Recipe(key, lambda _, seed=seed: cells.lm.fresh_lora(seed)) for key, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    cells.score(cells.missing([(recipe, "piqa") for recipe in (once, twice, other)]))
    assert cells.hash_of(once) == cells.hash_of(twice) != cells.hash_of(other)
    assert cells.told == ["piqa", "piqa"]  # type: ignore[attr-defined]
    assert cells.hash_of(Recipe(BASE)) == BASE
    assert start.rank  # the model is undressed again
    assert not any("lora" in name for name, _ in cells.lm.model.named_modules())


# recipes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [*REPORTED, "sciq"])
def test_wrong_prompts_are_other_tasks_all_of_them_different(task: str) -> None:
    for n in range(1, len(REPORTED)):
        found = others(task, n)
        assert len({task, *found}) == n + 1
        assert set(found) <= set(REPORTED)


def test_the_arc_tasks_are_not_each_others_wrong_prompts() -> None:
    assert "arc_easy" not in others("arc_challenge", 3)
    assert "arc_challenge" not in others("arc_easy", 3)


@bounded(max_examples=50)
@given(st.lists(st.text("ab c", min_size=1), min_size=1, max_size=6), st.integers(0, 3))
def test_shuffled_prompts_hold_the_same_words_in_the_same_lengths(prompts: list[str], seed: int) -> None:
    found = shuffled(prompts, seed)
    assert [len(text.split()) for text in found] == [len(text.split()) for text in prompts]
    assert sorted(" ".join(found).split()) == sorted(" ".join(prompts).split())
    assert found == shuffled(prompts, seed)


def test_a_seed_chooses_what_a_run_of_that_seed_chooses() -> None:
    splits = split(TASKS["arc_easy"], support=32, reward=96, test=200, seed=0)
    drawn = choose(part(TASKS["arc_easy"], "support"), 32, "0:support")
    assert [example.id for example in drawn] == [example.id for example in splits.support]
    drawn = choose(part(TASKS["arc_easy"], "test"), 200, "0:test")
    assert [example.id for example in drawn] == [example.id for example in splits.test]


# cost ----------------------------------------------------------------------------------------------------------------


def test_operations_are_counted() -> None:
    a, b = torch.randn(7, 5), torch.randn(5, 3)
    flops, operators = count(lambda: [a @ b for _ in range(4)])
    assert flops == 4 * 2 * 7 * 5 * 3
    assert operators == ["aten.mm"]
    q = torch.randn(1, 2, 6, 8)
    attention, _ = count(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert attention == 2 * (2 * 2 * 6 * 6 * 8)
    assert math.isclose(count(lambda: None)[0], 0)

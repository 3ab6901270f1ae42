"""What adapters cost elsewhere, by hand and on the tiny model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from eval.generation.cells import Cells
from eval.generation.retention import Started, measure, pairs_mean, prose_change
from eval.generation.rules import Judge
from eval.generation.sheets import PROSE, Sheet, questions
from eval.generation.workshop import BASE, Recipe

TASKS = ("winogrande", "piqa")


def loud(lm: LanguageModel) -> LoraWeights:
    """An adapter that changes what the model says."""
    start, generator = lm.fresh_lora(0), torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) if name.endswith("lora_B.weight") else tensor
        for name, tensor in start.tensors.items()
    }
    return LoraWeights(start.rank, start.alpha, start.targets, tensors, start.base_sha256)


def test_the_mean_over_pairs_leaves_each_adapters_own_task_out() -> None:
    """Adapter a loses half of b's questions, b nothing of a's: −.25 over both pairs."""
    changes = [{"b": np.array([-1.0, 0.0])}, {"a": np.array([0.0, 0.0, 0.0])}]
    found = pairs_mean(changes, ["a", "b"])
    assert found.mean == pytest.approx(-0.25)
    low, high = found.ci95
    assert -1 <= low < -0.25 < high <= 0
    same = [{other: np.array([1.0, 1.0]) for other in "abc" if other != task} for task in "abc"]
    assert pairs_mean(same, list("abc")).ci95 == (1.0, 1.0)


def test_the_price_of_a_token_by_hand() -> None:
    """10 and 30 tokens; one adapter costs 1 nat more in each passage, the other 3: 4 nats over 40 tokens."""
    costs = np.array([[20.0, 60.0], [21.0, 61.0], [23.0, 63.0]])
    found = prose_change(costs, np.array([10.0, 30.0]))
    assert found.mean == pytest.approx(2 * 2 / 40)
    assert found.ci95[0] < found.mean < found.ci95[1]


def test_prose_is_scored_word_for_word_behind_nothing() -> None:
    sheet = Sheet(PROSE.name, "test", 3)
    passages = questions(sheet)
    assert len(passages) == 3
    for example in passages:
        query = PROSE.query(example, "letter")
        assert query.prefix == ""
        assert [branch.scored for branch in query.branches] == [example.choices[0]]


def test_an_adapter_that_changes_nothing_costs_nothing(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    made = {"still": tiny_lm.fresh_lora(0), "loud": loud(tiny_lm)}
    cells = Cells(tmp_path, tiny_lm, lambda recipe: made.get(recipe.key))
    judges = {task: Judge(Sheet(task, "reward", 12), Sheet(task, "test", 12)) for task in TASKS}

    def fill(wanted: object) -> None:
        cells.score(cells.missing(wanted))  # type: ignore[arg-type]

    base = Recipe(BASE)
    fill([(base, ask) for judge in judges.values() for ask in judge.asks("text")])

    def found(key: str) -> object:
        recipe = Recipe(key, lambda _: made[key])
        return measure(cells, judges, {task: Started("generated", recipe) for task in TASKS}, fill)

    still, changed = found("still"), found("loud")
    assert still.accuracy.mean == 0
    assert still.accuracy.ci95 == (0, 0)
    assert list(still.perplexity.values()) == pytest.approx([still.base_perplexity] * 2, rel=1e-5)
    assert still.prose.mean == pytest.approx(0, abs=1e-5)
    shifts = np.log(list(changed.perplexity.values())) - np.log(changed.base_perplexity)
    assert abs(shifts[0]) > 1e-3
    assert changed.prose.mean == pytest.approx(shifts.mean())
    assert set(changed.points["piqa"]) == {"winogrande"}
    assert changed.kinds == dict.fromkeys(TASKS, "generated")


def test_a_single_task_has_no_other_one(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    assert (
        measure(Cells(tmp_path, tiny_lm, lambda _: None), {}, {"piqa": Started("generated", Recipe("x"))}, print)
        is None
    )

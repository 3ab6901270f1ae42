"""LoRA on labels on a tiny random model: what is held back, what is kept, what a training depends on."""

import random
from pathlib import Path

import pytest
from torch import equal

from cao.errors import InputError
from cao.model.adapters import LoraWeights, load_adapter
from cao.model.language_model import LanguageModel
from cao.types import Example
from eval.policies import labelled_lora
from eval.policies.labelled_lora import Fitted, Recipe, Shelf, deal, fit_lora
from eval.policies.labels import halves
from tests.tools.tiny_training import ANIMALS, TASKS, examples

QUICK = Recipe(rates=(1e-3, 3e-2), epochs=2, batch=8)
QUESTIONS = [each for each in examples(ANIMALS, 130) if each.answer == 1]


def fit(lm: LanguageModel, folder: Path, questions: list[Example] = QUESTIONS, recipe: Recipe = QUICK) -> Fitted:
    shelf = Shelf(folder / "labels", folder / "adapters")
    return fit_lora(lm, TASKS["animals"], questions, lm.fresh_lora(0), seed=1, shelf=shelf, recipe=recipe)


def turned(example: Example) -> Example:
    return example.model_copy(update={"answer": (example.answer + 1) % len(example.choices)})


def test_halves_are_disjoint_whole_and_the_same_in_any_order_and_under_any_labels() -> None:
    questions = examples(ANIMALS, 21)
    fitting, judging = halves(questions)
    assert {each.id for each in fitting} | {each.id for each in judging} == {each.id for each in questions}
    assert not {each.id for each in fitting} & {each.id for each in judging}
    assert (len(fitting), len(judging)) == (11, 10)
    shuffled = random.Random(3).sample(questions, len(questions))
    assert halves(shuffled) == (fitting, judging)
    other = halves([turned(each) for each in questions])
    assert [[each.id for each in half] for half in other] == [[each.id for each in half] for half in (fitting, judging)]


def test_twins_are_dealt_to_one_side() -> None:
    twins = [each.model_copy(update={"group": str(place // 2)}) for place, each in enumerate(examples(ANIMALS, 12))]
    for every in (2, 3):
        sides = [{each.group for each in side} for side in deal(twins, "anything", every)]
        assert not sides[0] & sides[1]
        assert len(sides[1]) == 6 // every


def test_a_training_takes_the_epoch_that_the_questions_held_back_prefer(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    fitted = fit(tiny_lm, tmp_path)
    assert (fitted.questions, fitted.held_back) == (26, 8)
    assert set(fitted.losses) == {"0.001", "0.03"}
    lowest = min(loss for several in fitted.losses.values() for loss in several)
    assert fitted.losses[f"{fitted.rate:g}"][fitted.epochs] == lowest
    assert fitted.epochs > 0  # every answer is the same: there is something to learn
    assert fitted.adapter != fitted.rehearsal
    made = load_adapter(tmp_path / "adapters" / fitted.adapter).provenance
    assert (made["epochs"], made["rate"]) == (str(fitted.epochs), f"{fitted.rate:g}")


def test_a_finished_training_is_kept_and_one_whose_adapter_is_gone_is_done_again(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, train = list[float](), labelled_lora.train

    def counted(*given: object, rate: float, **options: object) -> list[LoraWeights]:
        calls.append(rate)
        return train(*given, rate=rate, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(labelled_lora, "train", counted)
    first = fit(tiny_lm, tmp_path)
    assert len(calls) == 3
    assert fit(tiny_lm, tmp_path, QUESTIONS[::-1]) == first  # their order is no part of it
    assert len(calls) == 3
    (tmp_path / "adapters" / first.adapter).rename(tmp_path / "elsewhere")
    again = fit(tiny_lm, tmp_path)
    assert len(calls) == 6
    assert (again.adapter, again.losses) == (first.adapter, first.losses)


def test_labels_are_what_is_learnt(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    other = [turned(each) for each in QUESTIONS]
    assert fit(tiny_lm, tmp_path).adapter != fit(tiny_lm, tmp_path, other).adapter


def test_a_rate_that_diverges_is_left_and_a_start_that_nothing_improves_stays(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    fitted = fit(tiny_lm, tmp_path, recipe=Recipe(rates=(1e30,), epochs=2, batch=8))
    assert fitted.epochs == 0
    assert len(fitted.losses["1e+30"]) < 3
    kept, start = load_adapter(tmp_path / "adapters" / fitted.adapter).tensors, tiny_lm.fresh_lora(0).tensors
    assert all(equal(kept[name], tensor) for name, tensor in start.items())


def test_what_is_refused(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 labelled questions are too few"):
        fit(tiny_lm, tmp_path, QUESTIONS[:2])
    fit(tiny_lm, tmp_path)
    [record] = (tmp_path / "labels").glob("*.json")
    record.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        fit(tiny_lm, tmp_path)

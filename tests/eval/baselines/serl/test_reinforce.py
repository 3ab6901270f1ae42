"""Reinforcement by the public trainer on the tiny model: the policy moves towards what the majority says."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cao.errors import UnavailableError
from cao.inference.sampling import sample
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from eval.baselines.baseline import Place, Prepared
from eval.baselines.descent import Extent, taken
from eval.baselines.ground import Ground, Target
from eval.baselines.serl import reinforce as module
from eval.baselines.serl.method import Serl, SerlSettings
from eval.baselines.serl.questions import Writing
from eval.baselines.serl.reinforce import Reinforcing, Watch, reinforce
from eval.baselines.serl.votes import rewards
from eval.bench.plain.training import live, peft_model
from tests.tools.tiny_training import TASKS

PROMPT = "Question: Which of these animals can fly?\nAnswer:"


def side(text: str) -> str:
    """One of two answers: what kind of sign a text begins with."""
    return "odd" if sum(text.strip()[:1].encode()) % 2 else "even"


def share(lm: LanguageModel, weights: LoraWeights | None, answer: str) -> float:
    with lm.adapted(weights):
        how = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 1}
        texts = sample(lm, PROMPT, 200, generator=torch.Generator().manual_seed(0), **how)  # type: ignore[arg-type]
    return sum(side(text) == answer for text in texts) / len(texts)


def moved(lm: LanguageModel, judge: module.Judge, steps: int, rate: float = 3e-2) -> LoraWeights:
    start = lm.fresh_lora(0)
    settings = Reinforcing(rate=rate, prompts=1, samples=8, kl=1e-4)
    with peft_model(lm, start) as dressed:
        own = {name: live(dressed)[name] for name in start.tensors}
        optimizer = torch.optim.AdamW(list(own.values()), weight_decay=0.0)
        watch = Watch(0, 0, lambda: True)
        reinforce(lm, dressed, start, optimizer, [PROMPT] * steps, judge, settings, max_tokens=1, watch=watch)
        return taken(own, start, "a test")


@pytest.mark.slow
def test_the_policy_moves_towards_the_majority_and_not_where_all_is_filtered_out(tiny_lm: LanguageModel) -> None:
    pytest.importorskip("trl")
    padding = tiny_lm.model.config.pad_token_id
    before = {answer: share(tiny_lm, None, answer) for answer in ("odd", "even")}
    likelier = max(before, key=lambda answer: before[answer])

    def voted(place: int, texts: Sequence[str]) -> list[float | None]:
        return rewards([side(text) for text in texts], (0.0, 1.0))

    weights = moved(tiny_lm, voted, 180)
    missing = 1.0 - before[likelier]  # the tiny model's random weights, and so where it begins, differ by processor
    assert share(tiny_lm, weights, likelier) > before[likelier] + missing / 3.0
    assert tiny_lm.model.config.pad_token_id == padding
    still = moved(tiny_lm, lambda _, texts: [None] * len(texts), 2)
    assert all(torch.equal(still.tensors[name], value) for name, value in tiny_lm.fresh_lora(0).tensors.items())


TARGET = Target(TASKS["animals"], 0, tuple(TASKS["animals"].load()[:6]))
QUICK = Serl(
    SerlSettings(
        rounds=2,
        writing=Writing(wanted=2, shown=2, at_once=2, tries=1, max_tokens=8),
        reinforcing=Reinforcing(rate=1e-2, prompts=2, samples=4),
        bounds=(0.0, 1.0),
        extent=Extent(steps=5),
    )
)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_labels_are_not_read(ground: Ground, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    nothing = Prepared()
    whole = QUICK.adapt(ground, nothing, TARGET, Place("f"))
    assert whole.spent.steps == 5
    assert whole.spent.tokens
    turned = tuple(each.model_copy(update={"answer": (each.answer + 1) % 5}) for each in TARGET.support)
    other = QUICK.adapt(ground, nothing, replace(TARGET, support=turned), Place("f"))
    assert same(whole.weights, other.weights)

    def kill(label: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    place = Place("f", tmp_path / "kept.partial", 0.0)
    with pytest.raises(KeyboardInterrupt):
        QUICK.adapt(replace(ground, progress=kill), nothing, TARGET, place)
    again = QUICK.adapt(ground, nothing, TARGET, place)
    assert same(whole.weights, again.weights)
    assert (again.spent.steps, again.spent.tokens) == (whole.spent.steps, whole.spent.tokens)
    assert [path.name for path in tmp_path.glob("kept*")] == ["kept.partial"]


def same(first: LoraWeights | None, second: LoraWeights | None) -> bool:
    assert first is not None
    assert second is not None
    return all(torch.equal(second.tensors[name], value) for name, value in first.tensors.items())


def test_without_the_trainer_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UnavailableError, match=r"\.\[rl\]"):
        module.need("rl")

"""Apply: every family from its JSON to an adapted model, and the reasons why one cannot act."""

import inspect
import math
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tools.apply_strategy
from cao.errors import InputError, NotApplicableError
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.encoder import MAX_TOKENS
from cao.model.language_model import LanguageModel
from cao.strategies import FAMILIES, Standing, Strategy
from cao.strategy import validate_strategy
from cao.types import AdaptedModel, AdapterRef, AnswerRule, LatentSettings
from tools.apply_strategy import applicable, apply_strategy, kernel, ttl

PROMPTS = [f"Question: What is {i} plus {i * i}{' again' * i * i}?\nAnswer:" for i in range(6)]
TTL = validate_strategy({"family": "TTL", "ttl_steps": 2, "learning_rate": 1e-3, "batch_size": 2, "shuffle_data": True})
LORA = validate_strategy({"family": "LORA", "lambda": 0.5})
TTS = validate_strategy({"family": "TTS", "num_prompt_batches": 3, "method": "majority_vote"})
CALIBRATE = validate_strategy({"family": "Calibrate", "prior": "choice", "strength": 0.5, "length": "token"})
LATENT = validate_strategy({"family": "Latent", "slot_steps": 5, "slot_lr": 0.1})


def on(*members: AdapterRef | None, generator: bool = False, **more: Any) -> Standing:
    """What a strategy acts on: these adapters, or the plain base model."""
    return Standing(AdaptedModel(members=members or (None,), **more), "tiny", generator=generator)


MADE = on(generator=True)


class SumGenerator:
    """The simplest thing that depends on the conditioning: its sum on top of the initialisation."""

    prompts = 6

    def __init__(self, lm: LanguageModel) -> None:
        self.start = lm.fresh_lora(0)

    def generate(self, conditioning: Tensor, mask: Tensor) -> LoraWeights:
        assert mask.shape == conditioning.shape[:2]
        tensors = {name: tensor + conditioning.sum() for name, tensor in self.start.tensors.items()}
        return LoraWeights(self.start.rank, self.start.alpha, self.start.targets, tensors, self.start.base_sha256)


class LetterEncoder:
    """Conditions on letter counts: the real encoder's shapes without its weights."""

    sha256 = ""

    def tokens(self, prompts: list[str]) -> list[int]:
        return [1 for _ in prompts]

    def condition(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        states, mask = torch.zeros(len(prompts), MAX_TOKENS, 26), torch.zeros(len(prompts), MAX_TOKENS).bool()
        for i, prompt in enumerate(prompts):
            states[i, 0] = torch.tensor([prompt.count(chr(97 + c)) + len(prompt) / 100 for c in range(26)])
            mask[i, 0] = True
        return states, mask


@pytest.fixture
def adapter(tiny_lm: LanguageModel, tmp_path: Path) -> AdapterRef:
    weights = tiny_lm.fresh_lora(3)
    tensors = {name: tensor + 0.01 for name, tensor in weights.tensors.items()}
    moved = LoraWeights(weights.rank, weights.alpha, weights.targets, tensors, weights.base_sha256)
    return save_adapter(tmp_path, moved, "tiny")


def test_every_family_has_its_kernel_in_a_file_of_this_folder() -> None:
    folder = Path(tools.apply_strategy.__file__).parent
    kernels = {name: kernel(family) for name, family in FAMILIES.items()}
    files = {Path(inspect.getfile(function)).stem for function in kernels.values()}
    assert len(files) == len(FAMILIES)
    besides = {"__init__", "inputs", "latent_capped", "saliency", "ttl_loss"}
    assert {file.stem for file in folder.glob("*.py")} == files | besides
    for name, function in kernels.items():
        assert get_type_hints(function)["strategy"] is FAMILIES[name]


def test_ttl_trains_a_new_adapter_and_says_so(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    result = apply_strategy(
        TTL,
        PROMPTS,
        on(),
        7,
        lm=tiny_lm,
        store=tmp_path,
        progress=lambda label, done, total: seen.append((done, total)),
    )
    (member,) = result.members
    assert member is not None
    weights = load_adapter(Path(member.path), tiny_lm.sha256)
    start = tiny_lm.fresh_lora(7)
    assert any(not torch.equal(weights.tensors[name], start.tensors[name]) for name in start.tensors)
    assert result.note.startswith("2 steps on the 6 of 6 prompts that passed P0; their loss went from ")
    assert seen == [(1, 2), (2, 2)]


def test_equal_arguments_give_the_same_adapter(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    first, second, other = (apply_strategy(TTL, PROMPTS, on(), s, lm=tiny_lm, store=tmp_path) for s in (1, 1, 2))
    assert first == second
    assert first.members != other.members


def test_ttl_goes_on_from_the_current_adapter(tiny_lm: LanguageModel, tmp_path: Path, adapter: AdapterRef) -> None:
    gentle = TTL.model_copy(update={"learning_rate": 1e-5})
    (member,) = apply_strategy(gentle, PROMPTS, on(adapter), 0, lm=tiny_lm, store=tmp_path).members
    assert member is not None
    assert member != adapter
    before, after = load_adapter(Path(adapter.path)), load_adapter(Path(member.path))
    for name, tensor in before.tensors.items():
        assert (after.tensors[name] - tensor).abs().max() <= 2.1e-5
    assert after.provenance["start"] == adapter.sha256


def test_ttl_without_anything_to_learn_stores_nothing(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(NotApplicableError):
        apply_strategy(TTL, ["A"], on(), 0, lm=tiny_lm, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_lora_mixes_the_current_adapter(tiny_lm: LanguageModel, tmp_path: Path, adapter: AdapterRef) -> None:
    (member,) = apply_strategy(LORA, PROMPTS, on(adapter), 0, lm=tiny_lm, store=tmp_path).members
    assert member is not None
    before, after = load_adapter(Path(adapter.path)), load_adapter(Path(member.path))
    name = before.modules()[0] + ".lora_A.weight"
    upper, lower = before.tensors[name].chunk(2)
    assert torch.equal(after.tensors[name], torch.cat([upper + 0.5 * lower, 0.5 * upper + lower]))
    apart = LORA.model_copy(update={"lambda_": 0.0})
    (same,) = apply_strategy(apart, PROMPTS, on(adapter), 0, lm=tiny_lm, store=tmp_path).members
    assert same is not None
    assert same.sha256 == adapter.sha256


def test_latent_leaves_the_weights_alone(tiny_lm: LanguageModel, tmp_path: Path, adapter: AdapterRef) -> None:
    for current in (None, adapter):
        result = apply_strategy(LATENT, PROMPTS, on(current), 0, lm=tiny_lm, store=tmp_path)
        assert result.members == (current,)
        assert result.latent == LatentSettings(slot_steps=5, slot_lr=0.1)


def test_tts_makes_an_adapter_for_each_batch(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    tools_at_hand = {"generator": SumGenerator(tiny_lm), "encoder": LetterEncoder()}
    result = apply_strategy(TTS, PROMPTS, MADE, 0, lm=tiny_lm, store=tmp_path, **tools_at_hand)
    assert len(set(result.members)) == 3
    assert result.method == "majority_vote"
    assert result.centroids is None
    routing = TTS.model_copy(update={"method": "avg_sim_score"})
    routed = apply_strategy(routing, PROMPTS, MADE, 0, lm=tiny_lm, store=tmp_path, **tools_at_hand)
    assert routed.members == result.members
    (places,) = load_file(str(routed.centroids)).values()
    assert places.shape == (3, 2, 26)
    assert torch.allclose(places.norm(dim=-1), torch.ones(3, 2))


def test_tts_leaves_out_blank_and_repeated_prompts(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    tools_at_hand = {"lm": tiny_lm, "store": tmp_path, "generator": SumGenerator(tiny_lm), "encoder": LetterEncoder()}
    clean = apply_strategy(TTS, PROMPTS, MADE, 0, **tools_at_hand)
    assert apply_strategy(TTS, [*PROMPTS, " ", PROMPTS[2]], MADE, 0, **tools_at_hand) == clean
    with pytest.raises(NotApplicableError, match="3 prompt batches need 3 prompts and there are 2"):
        apply_strategy(TTS, [*PROMPTS[:2], PROMPTS[0]], MADE, 0, **tools_at_hand)


def test_what_cannot_act_says_why(tiny_lm: LanguageModel, tmp_path: Path, adapter: AdapterRef) -> None:
    nothing = applicable(on())
    assert nothing == {
        "TTL": None,
        "LORA": "there is no adapter to mix: the current model is tiny without one",
        "TTS": "there is nothing to route over: no generator exists for tiny",
        "Latent": None,
        "Calibrate": None,
    }
    assert set(applicable(on(adapter, generator=True)).values()) == {None}
    odd = on(adapter.model_copy(update={"rank": 3}))
    assert "odd rank 3" in str(LORA.refusal(odd))
    assert LORA.model_copy(update={"reading": "strength"}).refusal(odd) is None
    written = Standing(AdaptedModel(), "tiny", generator=False, ranks=False)
    assert "there are no choices" in str(applicable(written)["Calibrate"])
    for strategy in (LORA, TTS):
        with pytest.raises(NotApplicableError, match=str(nothing[strategy.family])):
            apply_strategy(strategy, PROMPTS, on(), 0, lm=tiny_lm, store=tmp_path)


BATCH = {"family": "Calibrate", "prior": "batch", "strength": 1.0, "length": "char"}


@pytest.mark.parametrize(
    ("strategy", "members", "rule", "why"),
    [
        (TTL, 2, AnswerRule(), "2 adapters answer together, and it changes one"),
        (LORA, 2, AnswerRule(), "2 adapters answer together, and it changes one"),
        (TTS, 3, AnswerRule(), "3 adapters answer together already"),
        (CALIBRATE, 1, AnswerRule(prior="choice", strength=0.5, length="token"), "this rule is in use already"),
        (validate_strategy(BATCH), 1, AnswerRule(), "the same words in every question"),
    ],
)
def test_what_cannot_be_combined_is_refused_before_anything_is_made(
    strategy: Strategy,
    members: int,
    rule: AnswerRule,
    why: str,
    tiny_lm: LanguageModel,
    tmp_path: Path,
    adapter: AdapterRef,
) -> None:
    standing = on(*[adapter] * members, generator=True, answer_rule=rule)
    store, at_hand = tmp_path / "store", {"generator": SumGenerator(tiny_lm), "encoder": LetterEncoder()}
    with pytest.raises(NotApplicableError, match=why):
        apply_strategy(strategy, PROMPTS, standing, 0, lm=tiny_lm, store=store, **at_hand)
    assert not store.exists()


@pytest.mark.parametrize("strategy", [TTL, LORA, TTS, LATENT, CALIBRATE], ids=lambda strategy: strategy.family)
def test_a_strategy_changes_its_own_part_of_the_model_and_keeps_the_rest(
    strategy: Strategy, tiny_lm: LanguageModel, tmp_path: Path, adapter: AdapterRef
) -> None:
    own = {"Latent": {"latent"}, "Calibrate": {"answer_rule"}, "TTS": {"members", "method", "centroids"}}
    latent, rule = LatentSettings(slot_steps=3, slot_lr=0.01), AnswerRule(length="none")
    standing = on(adapter, generator=True, latent=latent, answer_rule=rule)
    at_hand = {"generator": SumGenerator(tiny_lm), "encoder": LetterEncoder()}
    result = apply_strategy(strategy, PROMPTS, standing, 0, lm=tiny_lm, store=tmp_path, **at_hand)
    may, before = own.get(strategy.family, {"members"}) | {"note"}, standing.current
    changed = {name for name in AdaptedModel.model_fields if getattr(result, name) != getattr(before, name)}
    assert {"note"} < changed <= may


def test_calibrate_writes_nothing_and_says_its_rule(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    result = apply_strategy(CALIBRATE, PROMPTS, on(), 0, lm=tiny_lm, store=tmp_path / "store")
    assert result.members == (None,)
    assert result.answer_rule == AnswerRule(prior="choice", strength=0.5, length="token")
    assert "less 0.5 times what each choice has behind an empty question, divided by the tokens" in result.note
    assert not (tmp_path / "store").exists()


def test_a_damaged_adapter_is_refused(tiny_lm: LanguageModel, tmp_path: Path, adapter: AdapterRef) -> None:
    file = Path(adapter.path) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="damaged"):
        apply_strategy(LORA, PROMPTS, on(adapter), 0, lm=tiny_lm, store=tmp_path)


def test_latent_is_not_applied_again_on_top_of_itself() -> None:
    used = on(latent=LatentSettings(slot_steps=5, slot_lr=0.1))
    assert LATENT.refusal(used) == "these steps at this rate are in use already"
    assert LATENT.refusal(on(latent=LatentSettings(slot_steps=5, slot_lr=0.03))) is None
    assert LATENT.refusal(on()) is None


def test_a_perplexity_beyond_float32_is_a_number(monkeypatch: pytest.MonkeyPatch, tiny_lm: LanguageModel) -> None:
    """A prompt of 100 nats a token is far off, and no reason to stop."""
    monkeypatch.setattr(ttl, "prompt_losses", lambda *_: torch.tensor([100.0, 3.0]))
    first, second = ttl.perplexities(tiny_lm, ["the bird can fly", "apples grow"], None)
    assert math.log(first) == pytest.approx(100.0)
    assert math.log(second) == pytest.approx(3.0)

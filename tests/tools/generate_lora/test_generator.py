"""The trained generator: any number of prompts, what is refused, what PEFT loads."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.profiles import LORA_TARGETS
from cao.types import AdapterRef
from tests.tools.generate_lora.tiny_generators import BASE, CHANNELS, ENCODER, LENGTH, SMALL, N, prompts, untrained
from tools.generate_lora import generate_lora
from tools.generate_lora import generator as module
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.statistics import StatisticsMode
from tools.generate_lora.tokens import TokenLayout, flatten


@pytest.mark.parametrize("mode", ["element", "layer"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 40])
def test_any_number_of_prompts_makes_one_adapter(n: int, mode: StatisticsMode) -> None:
    generator = untrained(mode=mode)
    states, mask = prompts(n)
    weights = generator.generate(states, mask)
    assert weights.provenance == {"made_by": "generator", "generator": "", "prompts": str(n)}
    count = -(-n // N)
    tensors = [[states[(place * count + k) % n] for place in range(N)] for k in range(count)]
    masks = [[mask[(place * count + k) % n] for place in range(N)] for k in range(count)]
    each = [
        generator.residual(torch.stack(some)[None], torch.stack(kept)[None])[0]
        for some, kept in zip(tensors, masks, strict=True)
    ]
    wanted = torch.stack(each).mean(0)
    assert torch.allclose(generator.to_residual(weights), wanted, atol=1e-6)
    used = {(place * count + k) % n for place in range(N) for k in range(count)}
    assert used == set(range(n))


def test_blocks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, seen = untrained(), []
    generator.decoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    whole = generator.generate(*prompts(20))
    monkeypatch.setattr(module, "BLOCK", 2)
    parts = generator.generate(*prompts(20))
    assert seen == [7, 2, 2, 2, 1]
    assert torch.allclose(generator.to_residual(whole), generator.to_residual(parts), atol=1e-6)


def test_what_stands_behind_the_mask_does_not_matter_and_what_stands_before_does() -> None:
    generator, (states, mask) = untrained(), prompts(5)
    here = generator.generate(states, mask)
    noisy = states + 1e6 * ~mask.unsqueeze(-1)
    assert adapter_sha256(generator.generate(noisy, mask)) == adapter_sha256(here)
    batch = generator.residual(torch.stack([states[:N], noisy[:N]]), torch.stack([mask[:N]] * 2))
    assert torch.equal(batch[0], batch[1])
    moved = states + 0.1 * mask.unsqueeze(-1) * torch.randn(CHANNELS, generator=torch.Generator().manual_seed(3))
    assert adapter_sha256(generator.generate(moved, mask)) != adapter_sha256(here)


def test_frame_and_padding_are_cut_off() -> None:
    generator, (states, mask) = untrained(), prompts(N)
    before = generator.residual(states[None], mask[None])
    images = generator.decoder(states[None])[0]
    flat = images[..., : SMALL.token[0], : SMALL.token[1]].reshape(SMALL.layers, -1)[:, : SMALL.length]
    gain, offset = generator.place(generator.codes).T.repeat_interleave(SMALL.size, 1)
    gain, offset = (x.view(SMALL.layers, -1)[:, : SMALL.length] for x in (gain, offset))
    wanted = (flat * (1 + gain) + offset) * generator.scale + generator.centre
    assert torch.allclose(before[0], wanted, atol=1e-6)


def test_position_codes_move_tokens_apart() -> None:
    generator = untrained()
    torch.nn.init.zeros_(generator.decoder.blocks[-1].mix.weight)
    torch.nn.init.ones_(generator.decoder.blocks[-1].mix.bias)
    states, mask = prompts(N)
    normal, _ = generator((states * mask.unsqueeze(-1))[None])
    per_token = normal[0].flatten()[:: SMALL.size].unique()
    assert len(per_token) > SMALL.tokens // 2


def test_residuals_are_differentiable_in_every_weight() -> None:
    for mode in ("element", "layer"):
        generator = untrained(mode=mode).train().requires_grad_(True)  # type: ignore[arg-type]
        states, mask = prompts(N)
        generator.residual(states[None], mask[None]).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in generator.parameters())


@pytest.mark.parametrize(
    ("n", "length", "channels"), [(0, LENGTH, CHANNELS), (2, LENGTH + 1, CHANNELS), (2, LENGTH, 4)]
)
def test_token_states_of_another_size_are_refused(n: int, length: int, channels: int) -> None:
    with pytest.raises(InputError, match=rf"shape \({n}, {length}, {channels}\); this generator reads \(n, 6, 5\)"):
        untrained().generate(*prompts(n, 0, length, channels))


def of_tiny(lm: LanguageModel) -> TrainedGenerator:
    layout = TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (8, 16))
    return untrained(layout, base=lm.sha256)


class Drawn:
    """An encoder that draws a prompt's states."""

    def __init__(self, sha256: str = ENCODER) -> None:
        self.sha256 = sha256

    def tokens(self, texts: list[str]) -> list[int]:
        return [LENGTH for _ in texts]

    def condition(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return prompts(len(texts))


def generated(lm: LanguageModel, store: Path, encoder: Drawn) -> AdapterRef | None:
    texts = ["one", "two", "three", "four"]
    return generate_lora(texts, lm=lm, store=store, encoder=encoder, generator=of_tiny(lm)).adapter


def test_peft_loads_what_is_generated_and_computes_alike(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    from peft import PeftModel

    made = generated(tiny_lm, tmp_path / "store", Drawn())
    assert made is not None
    stored = load_adapter(Path(made.path), tiny_lm.sha256)
    ids = torch.tensor([tiny_lm.encode("Question: Which of these animals can fly?\nAnswer:")])
    with torch.no_grad():
        plain = tiny_lm.model(input_ids=ids).logits
        with tiny_lm.adapted(stored):
            ours = tiny_lm.model(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(tiny_lm.model, made.path, autocast_adapter_dtype=False)(ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)


def test_generating_twice_gives_the_same_bits_and_starts_a_training(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    generator = of_tiny(tiny_lm)
    first, second = (generator.generate(*prompts(4)) for _ in range(2))
    assert save_adapter(tmp_path, first, "tiny") == save_adapter(tmp_path, second, "tiny")
    flat = flatten(first.tensors, generator.layout).requires_grad_(True)  # no tensor of inference mode
    (flat * flat).sum().backward()
    assert flat.grad is not None


def test_another_encoder_is_refused_with_both_hashes(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="encoder is ffffffffffff, the generator reads eeeeeeeeeeee"):
        generated(tiny_lm, tmp_path, Drawn("f" * 64))


def test_changing_what_an_adapter_is_for_changes_its_hash() -> None:
    weights = untrained().generate(*prompts(3))
    assert weights.base_sha256 == BASE
    assert (weights.rank, weights.alpha, weights.targets) == (2, 8, tuple(sorted(LORA_TARGETS)))
    assert adapter_sha256(replace(weights, base_sha256="d" * 64)) != adapter_sha256(weights)

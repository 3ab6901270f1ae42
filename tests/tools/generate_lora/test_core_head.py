"""The core head: ΔW = (α/r) B (I + C) A by hand, what it does without prompts, and its training."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.inference.choice_loss import choice_loss, choice_rows
from cao.model.adapters import adapter_sha256
from cao.model.language_model import LanguageModel
from tests.tools.generate_lora.test_training import CHANNELS, LENGTH, N, states
from tests.tools.tiny_training import TASKS, layout_of
from tools.generate_lora.core_head import CoreHead, core_shape
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import Identity, TrainedGenerator, load_generator
from tools.generate_lora.sources import GeneratorPreset, Source, conditioning
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten
from tools.generate_lora.training import train_generator
from tools.generate_lora.training_step import Trainer

Q, V = (f"base_model.model.layers.0.{name}" for name in ("q_proj", "v_proj"))
LAYOUT = TokenLayout.of({Q: (2, 3), V: (1, 3)}, 2, 4, (1, 4))
PRESET = GeneratorPreset(
    steps=6, tasks=2, rate=1e-2, centre_rate=1e-2, reconstruction=0.0, answers=0.3, choices=1.0, batch=4
)


def untrained(lm: LanguageModel, mode: StatisticsMode = "element") -> TrainedGenerator:
    layout = layout_of(lm)
    ladder = Ladder(((N, LENGTH, CHANNELS), (4, 3, 8), core_shape(layout)), 3, affine=False)
    width = 2 if mode == "layer" else layout.length
    statistics = Statistics(mode, torch.zeros(layout.layers, width), torch.ones(layout.layers, 1))
    identity = Identity(lm.sha256, "e" * 64, 0, adapter_sha256(lm.fresh_lora(0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return TrainedGenerator(ladder, layout, statistics, identity, train_centre=True, head="core")


def sources_of(lm: LanguageModel) -> list[Source]:
    return [
        Source(name, states(seed), [], torch.empty(0), choice_rows(lm, task, task.load(), 128))
        for seed, (name, task) in enumerate(TASKS.items())
    ]


def test_a_core_stands_between_the_shared_matrices() -> None:
    head = CoreHead(LAYOUT)
    with torch.no_grad():
        head.gain.copy_(torch.tensor([[2.0, 10.0]]))
    a, b = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    a2, b2 = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), torch.tensor([[3.0, 4.0]])
    shared = torch.cat([part.flatten() for part in (a, b, a2, b2)])[None]
    images = torch.tensor([[0.0, 0.5], [0.0, 0.0], [0.1, 0.0], [0.0, 0.2]])[None, None]
    (flat,) = head(images, shared)
    made = unflatten(flat, LAYOUT)
    assert made[f"{Q}.lora_A.weight"].tolist() == [[5.0, 7.0, 9.0], [4.0, 5.0, 6.0]]  # (I + 2·[[0, .5], [0, 0]])·A
    assert torch.equal(made[f"{Q}.lora_B.weight"], b)
    assert torch.allclose(made[f"{V}.lora_B.weight"] @ made[f"{V}.lora_A.weight"], torch.tensor([[6.0, 12.0, 18.0]]))


def test_without_a_core_it_is_the_shared_adapter_and_every_task_has_its_own(tiny_lm: LanguageModel) -> None:
    generator = untrained(tiny_lm).requires_grad_(False)
    shared = generator.centre_weights()
    assert shared is not None
    drawn = [conditioning(states(seed), (N, LENGTH, CHANNELS)) for seed in (0, 1)]
    first, second = (generator.generate(*each) for each in drawn)
    name = next(name for name in shared.tensors if "lora_A" in name)
    assert not torch.equal(first.tensors[name], second.tensors[name])
    with torch.no_grad():
        assert generator.core is not None
        generator.core.gain.zero_()
    for weights in (generator.generate(*drawn[0]), generator.unconditional()):
        assert all(torch.allclose(weights.tensors[key], value, atol=1e-6) for key, value in shared.tensors.items())


def test_it_is_written_and_read_to_the_same_adapters(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    generator = untrained(tiny_lm).requires_grad_(False)
    generator.round_as_stored()
    generator.made = {"preset": "a test"}
    sha256 = generator.save(tmp_path / "generator.safetensors")
    read = load_generator(tmp_path / "generator.safetensors", tiny_lm.sha256)
    given = conditioning(states(0), (N, LENGTH, CHANNELS))
    assert (read.sha256, read.head) == (sha256, "core")
    assert adapter_sha256(read.generate(*given)) == adapter_sha256(generator.generate(*given))


def test_it_needs_a_decoder_and_statistics_of_its_own(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="element-wise statistics"):
        untrained(tiny_lm, "layer")
    layout = layout_of(tiny_lm)
    ladder = Ladder(((N, LENGTH, CHANNELS), (layout.tokens, *layout.frame)), 3, affine=False)
    other = untrained(tiny_lm)
    with pytest.raises(InputError, match="does not make the layout's core"):
        TrainedGenerator(ladder, layout, other.statistics, other.identity, train_centre=True, head="core")


def _gradient(lm: LanguageModel, generator: TrainedGenerator, sources: list[Source], preset: GeneratorPreset) -> Tensor:
    """The gradient of one step's loss by autograd alone, without the detour over the live parameters."""
    given = [conditioning(source.states[:N], (N, LENGTH, CHANNELS)) for source in sources]
    residuals = [generator.residual(tensor[None], mask[None])[0] for tensor, mask in given]
    slopes = []
    with lm.adapted(generator.initial, trainable=True) as live:

        def slope(residual: Tensor, source: Source) -> tuple[float, Tensor]:
            with torch.no_grad():
                for name, value in unflatten(generator.origin + residual, generator.layout).items():
                    live[name].copy_(value)
                    live[name].grad = None
            nll, chosen = choice_loss(lm, source.questions, gradient=True)
            total = preset.answers * nll + preset.choices * chosen
            found = torch.autograd.grad(total, list(live.values()))
            return float(total.detach()), flatten(dict(zip(live, found, strict=True)), generator.layout)

        for i, source in enumerate(sources):
            own, mine = slope(residuals[i], source)
            foreign, away = slope(residuals[1 - i], source)
            weight = preset.contrast if own + preset.margin > foreign else 0.0
            slopes += [(residuals[i], (1 + weight) * mine / 2), (residuals[1 - i], -weight * away / 2)]
    total = torch.stack([(residual * slope.detach()).sum() for residual, slope in slopes]).sum()
    found = torch.autograd.grad(total, list(generator.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


@pytest.mark.parametrize("margin", [0.0, 100.0])
def test_a_step_asks_that_own_prompts_serve_better_than_anothers(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, margin: float
) -> None:
    tiny_lm.model.float()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, limit: None)
    preset = PRESET.model_copy(update={"contrast": 0.5, "margin": margin, "noise": 0.0, "few": 0.0, "batch": 100})
    sources = [Source(s.name, s.states[:N], [], s.residuals, s.questions) for s in sources_of(tiny_lm)]
    generator = untrained(tiny_lm)
    with torch.no_grad():  # B = 0 changes nothing, whatever the core
        generator.centre.add_(0.05 * torch.randn(generator.centre.shape, generator=torch.Generator().manual_seed(0)))
    wanted = _gradient(tiny_lm, generator, sources, preset)
    with tiny_lm.adapted(generator.initial, trainable=True) as live:
        optimizer = torch.optim.SGD(generator.parameters(), lr=0.0)
        trainer = Trainer(generator, sources, tiny_lm, live, optimizer, None, preset)
        monkeypatch.setattr(
            "tools.generate_lora.training_step.draw", lambda s, g, p, r: conditioning(s.states, (N, LENGTH, CHANNELS))
        )
        trainer.step(0, _Ordered())
    found = torch.cat([p.grad.flatten() for p in generator.parameters() if p.grad is not None])
    assert float((found - wanted).norm() / wanted.norm()) < 1e-4


class _Ordered(random.Random):
    """Draws every source in order, and the questions from the first on."""

    def sample(self, population: list[Source], k: int) -> list[Source]:  # type: ignore[override]
        return population[:k]


def test_training_lowers_the_loss_of_choosing(tiny_lm: LanguageModel) -> None:
    generator = untrained(tiny_lm)
    preset = PRESET.model_copy(update={"steps": 30, "contrast": 0.5, "unprompted": 0.2})
    losses = [loss for _, loss in train_generator(generator, sources_of(tiny_lm), tiny_lm, preset=preset, seed=1)]
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])


def test_the_same_training_without_any_prompt_is_one_adapter_for_all(tiny_lm: LanguageModel) -> None:
    preset = PRESET.model_copy(update={"unprompted": 1.0})
    generator, sources = untrained(tiny_lm), sources_of(tiny_lm)
    train_generator(generator, sources, tiny_lm, preset=preset, seed=1)
    swapped = [
        Source(s.name, t.states, [], s.residuals, s.questions) for s, t in zip(sources, sources[::-1], strict=True)
    ]
    again = untrained(tiny_lm)
    train_generator(again, swapped, tiny_lm, preset=preset, seed=1)
    assert adapter_sha256(again.unconditional()) == adapter_sha256(generator.unconditional())

"""Generator training: the gradient through the model against autograd's own, what training does, and kills."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import adapter_sha256
from cao.model.language_model import LanguageModel
from tests.tools.tiny_training import layout_of, plain_loss, rows_of
from tools.generate_lora import training_step
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import Identity, TrainedGenerator
from tools.generate_lora.sources import GeneratorPreset, Source, conditioning, draw, fit
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import flatten, unflatten
from tools.generate_lora.training import train_generator
from tools.generate_lora.training_step import Trainer, behaviour

N, LENGTH, CHANNELS = 3, 6, 5
QUICK = GeneratorPreset(steps=8, tasks=2, rate=1e-2, centre_rate=1e-3, batch=4, noise=0.05, few=0.25)


def states(seed: int, count: int = 8) -> list[Tensor]:
    """Prompts of one task: token states about a point of its own."""
    generator = torch.Generator().manual_seed(seed)
    about = torch.randn(CHANNELS, generator=generator)
    lengths = torch.randint(2, LENGTH + 2, (count,), generator=generator).tolist()
    return [(about + 0.3 * torch.randn(length, CHANNELS, generator=generator)).half() for length in lengths]


def sources_of(lm: LanguageModel) -> list[Source]:
    """Two tasks with random residuals of a checkpoint's size, each with its own."""
    layout, found = layout_of(lm), []
    for seed, name in enumerate(("animals", "numbers")):
        generator = torch.Generator().manual_seed(seed)
        mean = 0.02 * torch.randn(layout.layers, layout.length, generator=generator)
        kept = mean + 1e-3 * torch.randn(3, layout.layers, layout.length, generator=generator)
        rows = sorted(rows_of(lm, name), key=lambda row: len(row.tokens))
        found.append(Source(name, states(seed), rows, kept.to(torch.bfloat16)))
    return found


def untrained(
    lm: LanguageModel, sources: list[Source], mode: StatisticsMode = "element", *, train_centre: bool = True
) -> TrainedGenerator:
    layout = layout_of(lm)
    identity = Identity(lm.sha256, "e" * 64, 0, adapter_sha256(lm.fresh_lora(0)))
    ladder = Ladder(((N, LENGTH, CHANNELS), (4, 3, 8), (layout.tokens, *layout.frame)), 3, affine=False)
    statistics = Statistics.fit(mode, torch.stack([source.residuals.float().mean(0) for source in sources]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return TrainedGenerator(ladder, layout, statistics, identity, train_centre=train_centre)


def train(
    lm: LanguageModel, sources: list[Source] | None = None, mode: StatisticsMode = "element", **changes: Any
) -> tuple[TrainedGenerator, list[tuple[float, float]]]:
    options = {"seed": 5}
    options |= {key: changes.pop(key) for key in list(changes) if key not in GeneratorPreset.model_fields}
    sources = sources_of(lm) if sources is None else sources
    preset = QUICK.model_copy(update=changes)
    generator = untrained(lm, sources or sources_of(lm), mode, train_centre=preset.centre_rate > 0)
    return generator, train_generator(generator, sources, lm, preset=preset, **options)


def means(losses: list[tuple[float, float]], part: slice) -> tuple[float, float]:
    first, second = zip(*losses[part], strict=True)
    return sum(first) / len(first), sum(second) / len(second)


def apart(found: Iterable[Tensor | None], wanted: Iterable[Tensor | None]) -> float:
    """How far a whole gradient is from another, as a share of its length."""
    one, two = (torch.cat([part.flatten() for part in parts if part is not None]) for parts in (found, wanted))
    return float((one - two).norm() / two.norm())


@pytest.mark.parametrize("mode", ["element", "layer"])
def test_the_gradient_through_the_model_is_autograds_own(tiny_lm: LanguageModel, mode: StatisticsMode) -> None:
    tiny_lm.model.float()
    sources = sources_of(tiny_lm)
    generator = untrained(tiny_lm, sources, mode)
    generator.requires_grad_(True)
    start, layout, rows = tiny_lm.fresh_lora(0), layout_of(tiny_lm), sources[0].rows[:4]
    origin = flatten(start.tensors, layout)
    tensor, mask = conditioning(sources[0].states, (N, LENGTH, CHANNELS))
    parameters = list(generator.parameters())

    residual = generator.residual(tensor[None], mask[None])[0]
    direct = plain_loss(tiny_lm, unflatten(origin + residual, layout), rows, start.alpha / start.rank)
    wanted = torch.autograd.grad(direct, parameters, allow_unused=True)

    residual = generator.residual(tensor[None], mask[None])[0]
    with tiny_lm.adapted(start, trainable=True) as live:
        given = (tiny_lm, live, layout, origin + residual.detach(), rows, QUICK)
        (loss, slope), (again, repeated) = behaviour(*given), behaviour(*given)
    found = torch.autograd.grad((residual * slope).sum(), parameters, allow_unused=True)

    assert loss == pytest.approx(float(direct.detach()), rel=1e-5)
    assert (again, slope.dtype) == (loss, torch.float32)
    assert torch.equal(slope, repeated)  # nothing is left over from the questions before
    assert [one is None for one in found] == [two is None for two in wanted]
    assert apart(found, wanted) < 1e-4


def test_a_step_weighs_eq_1_and_the_mean_of_the_tasks_answers(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_lm.model.float()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, limit: None)
    sources = sources_of(tiny_lm)
    preset = QUICK.model_copy(update={"noise": 0.0, "few": 0.0, "reconstruction": 0.5, "batch": 100})
    generator = untrained(tiny_lm, sources)
    origin = flatten(generator.initial.tensors, generator.layout)
    drawn: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(training_step, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    ones = [replace(source, residuals=source.residuals[:1]) for source in sources]
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.0)
    statistics = fit("element", sources)
    order = random.Random(0).sample(range(2), 2)
    with tiny_lm.adapted(generator.initial, trainable=True) as live:
        trainer = Trainer(generator, ones, tiny_lm, live, optimizer, statistics, preset)
        reconstruction, answers = trainer.step(0, random.Random(0))
    found = {name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None}
    generator.zero_grad()
    wanted, parts = torch.zeros(()), []
    for place, (tensor, mask) in zip(order, drawn, strict=True):
        normal, _ = generator(tensor[None] * mask[None, ..., None])
        with torch.no_grad():
            goal, _ = statistics.normalise(ones[place].residuals[0].float())
        residual = generator.statistics.restore(normal, normal[..., :0])[0]
        loss = plain_loss(tiny_lm, unflatten(origin + residual, generator.layout), ones[place].rows, 2.0)
        eq_1 = (normal[0] - goal).square().mean()
        wanted = wanted + 0.5 * eq_1 / 2 + loss / 2
        parts.append((float(eq_1), float(loss)))
    wanted.backward()
    assert (reconstruction, answers) == pytest.approx(means(parts, slice(None)), rel=1e-4)
    assert found.keys() == dict(generator.named_parameters()).keys()
    assert apart(found.values(), [parameter.grad for parameter in generator.parameters()]) < 1e-4


@pytest.mark.parametrize("mode", ["element", "layer"])
def test_training_lowers_eq_1(tiny_lm: LanguageModel, mode: StatisticsMode) -> None:
    generator, losses = train(tiny_lm, mode=mode, steps=120, behaviour_from=120, centre_rate=0.0)
    before, after = means(losses, slice(10)), means(losses, slice(-10, None))
    assert after[0] < 0.9 * before[0]
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert not any("lora" in name for name, _ in tiny_lm.model.named_modules())


@pytest.mark.parametrize(("mode", "centre_rate"), [("element", 1e-3), ("element", 0.0), ("layer", 0.0)])
def test_training_lowers_the_answers_loss(tiny_lm: LanguageModel, mode: StatisticsMode, centre_rate: float) -> None:
    _, losses = train(tiny_lm, mode=mode, steps=24, rate=3e-2, reconstruction=0.0, centre_rate=centre_rate)
    assert means(losses, slice(-4, None))[1] < 0.97 * means(losses, slice(4))[1]


def test_the_centre_learns_only_where_it_has_a_rate(tiny_lm: LanguageModel) -> None:
    sources = sources_of(tiny_lm)
    start = untrained(tiny_lm, sources).centre.detach().clone()
    fixed, _ = train(tiny_lm, sources, centre_rate=0.0, steps=3)
    moved, _ = train(tiny_lm, sources, centre_rate=1e-2, steps=3)
    assert torch.equal(fixed.centre, start)
    assert not torch.allclose(moved.centre, start, atol=1e-4)


def test_the_answers_loss_comes_in_when_the_preset_says(tiny_lm: LanguageModel) -> None:
    late = train(tiny_lm, steps=4, behaviour_from=2)[1]
    assert [answers > 0 for _, answers in late] == [False, False, True, True]
    generator, never = train(tiny_lm, steps=3, behaviour_from=3)
    without, sources = untrained(tiny_lm, sources_of(tiny_lm)), sources_of(tiny_lm)
    preset = QUICK.model_copy(update={"steps": 3, "behaviour_from": 3})
    assert train_generator(without, sources, None, preset=preset, seed=5) == never
    assert adapter_sha256(without.unconditional()) == adapter_sha256(generator.unconditional())
    assert [answers for _, answers in never] == [0.0] * 3
    assert all(reconstruction > 0 for reconstruction, _ in never)
    alone = train(tiny_lm, steps=2, reconstruction=0.0)[1]
    assert [reconstruction for reconstruction, _ in alone] == [0.0] * 2


def test_fewer_prompts_are_used_again_in_turn_and_long_ones_cut() -> None:
    given = [torch.full((length, CHANNELS), float(length)).half() for length in (2, LENGTH + 3)]
    tensor, mask = conditioning(given, (3, LENGTH, CHANNELS))
    assert mask.sum(1).tolist() == [2, LENGTH, 2]
    assert tensor.dtype == torch.float32
    assert tensor[:, 0, 0].tolist() == [2.0, LENGTH + 3, 2.0]
    assert not bool((tensor * ~mask.unsqueeze(-1)).any())


def test_draws_make_few_prompts_and_noise_as_often_and_as_loud_as_asked(tiny_lm: LanguageModel) -> None:
    sources = sources_of(tiny_lm)
    generator = untrained(tiny_lm, sources)
    shape, rng = (N, LENGTH, CHANNELS), random.Random(0)
    kinds = []
    for _ in range(400):
        tensor, mask = draw(sources[0], generator, QUICK.model_copy(update={"noise": 0.0, "few": 0.5}), rng)
        assert (tensor.shape, mask.shape) == (shape, shape[:2])
        kinds.append(len(tensor.unique(dim=0)))
    assert 0.25 < sum(kind < N for kind in kinds) / len(kinds) < 0.42  # of every other one, 1 or 2 of 3
    clean, noisy = (
        draw(sources[0], generator, QUICK.model_copy(update={"noise": noise, "few": 0.0}), random.Random(7))[0]
        for noise in (0.0, 0.1)
    )
    mask = clean.abs().sum(-1) > 0
    assert float((noisy - clean)[mask].std()) == pytest.approx(0.1 * float(clean[mask].std()), rel=0.25)


@pytest.mark.parametrize("mode", ["element", "layer"])
@pytest.mark.parametrize("kill_at", [1, 5])
def test_a_killed_training_goes_on_to_the_same_bits(
    tiny_lm: LanguageModel, tmp_path: Path, kill_at: int, mode: StatisticsMode
) -> None:
    checkpoint, seen = tmp_path / "generator.partial", []
    centre_rate = QUICK.centre_rate if mode == "element" else 0.0
    whole, losses = train(tiny_lm, mode=mode, centre_rate=centre_rate)

    def kill(label: str, done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == kill_at:
            raise KeyboardInterrupt

    options = {"checkpoint": checkpoint, "checkpoint_every_s": 0, "progress": kill, "centre_rate": centre_rate}
    with pytest.raises(KeyboardInterrupt):
        train(tiny_lm, mode=mode, **options)
    resumed, again = train(tiny_lm, mode=mode, **options)
    assert seen == [(done, 8) for done in range(1, 9)]  # no step was taken twice
    assert again == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_another_trainings_checkpoint_is_not_taken(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    checkpoint, sources = tmp_path / "generator.partial", sources_of(tiny_lm)
    train(tiny_lm, sources, steps=2, checkpoint=checkpoint, checkpoint_every_s=0)
    kept = checkpoint.read_bytes()
    moved = [replace(sources[0], residuals=sources[0].residuals + 1), sources[1]]
    asked = [replace(sources[0], rows=sources[0].rows[1:]), sources[1]]
    said = [replace(sources[0], states=sources[0].states[1:]), sources[1]]
    cases: list[dict[str, Any]] = [{"seed": 9}, {"rate": 2e-2}, {"sources": moved}, {"sources": asked}]
    for changes in (*cases, {"sources": said}):
        checkpoint.write_bytes(kept)
        options = {"sources": sources, "steps": 2, **changes}
        alone, beside = train(tiny_lm, **options), train(tiny_lm, **options, checkpoint=checkpoint)
        assert alone[1] == beside[1]
        assert len(beside[1]) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_checkpoint_is_refused(
    tiny_lm: LanguageModel, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = tmp_path / "generator.partial"
    train(tiny_lm, steps=2, checkpoint=checkpoint, checkpoint_every_s=0)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(InputError, match=r"generator\.partial: damaged .*; delete it"):
        train(tiny_lm, steps=2, checkpoint=checkpoint)


def test_a_training_that_diverges_ends_in_an_error(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match=r"diverged at step \d+"):
        train(tiny_lm, rate=1e30, steps=40)


def test_what_cannot_be_trained_on_is_refused(tiny_lm: LanguageModel) -> None:
    good = sources_of(tiny_lm)
    for sources in ([], [replace(good[0], states=[])], [replace(good[0], residuals=good[0].residuals[:0])]):
        with pytest.raises(InputError, match="one source or more, each with prompts and checkpoints"):
            train(tiny_lm, sources)
    with pytest.raises(InputError, match="set behaviour_from to 0"):
        train(tiny_lm, good, reconstruction=0.0, behaviour_from=3)

"""The aligner's training: what it does, that a killed one goes on, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256
from tests.tools.align_lora.tiny_aligners import INITIAL, LAYOUT, SCALES, TASKS, WIDTH, adapter, source, train
from tools.align_lora.fusion_vae import FusionVAE, cut_chunks
from tools.align_lora.training import SourceTask
from tools.generate_lora.tokens import flatten


def distance(one: LoraWeights, residual: Tensor) -> float:
    """In units of the layers' scales, root mean square."""
    other = flatten(INITIAL.tensors, LAYOUT) + residual
    return ((flatten(one.tensors, LAYOUT) - other) / SCALES).square().mean().sqrt().item()


def test_training_towards_checkpoints_moves_generated_weights_closer() -> None:
    aligner, curve = train(meta_epochs=300, meta_rate=3e-3)
    first, last = (sum(mse for mse, _ in part) / 30 for part in (curve[:30], curve[-30:]))
    assert len(curve) == 300
    assert last < 0.85 * first
    for task in (*TASKS, source("never seen", 9)):
        generated = adapter(task.generated[0])
        aligned = aligner.align(generated, task.vectors[0])
        assert distance(aligned, task.checkpoint) < 0.9 * distance(generated, task.checkpoint), task.name


def test_the_correction_is_in_units_of_each_layers_scale() -> None:
    aligner, _ = train(meta_epochs=300, meta_rate=3e-3)
    generated = adapter(TASKS[0].generated[0])
    change = flatten(aligner.align(generated, TASKS[0].vectors[0]).tensors, LAYOUT) - flatten(generated.tensors, LAYOUT)
    sizes = change.square().mean(1).sqrt() / SCALES[:, 0]
    assert aligner.scale.tolist() == pytest.approx(SCALES[:, 0].tolist(), rel=0.1)
    assert sizes.max() < 2 * sizes.min()


def test_reconstructing_what_was_generated_stays_the_identity() -> None:
    """With the generated weights on both sides of Eq. 3, nothing is left to correct."""
    aligner, curve = train(target="generated")
    generated = adapter(TASKS[0].generated[0])
    aligned = aligner.align(generated, TASKS[0].vectors[0])
    assert [mse for mse, _ in curve] == [0.0] * 20
    assert all(torch.equal(aligned.tensors[name], generated.tensors[name]) for name in generated.tensors)
    assert train(target="generated", meta_epochs=200, meta_rate=3e-3)[1][-1][1] < curve[0][1]  # the KL is trained


def test_untrained_is_the_identity_bit_for_bit() -> None:
    aligner, _ = train(meta_epochs=0)
    generated = adapter(TASKS[0].generated[0])
    aligned = aligner.align(generated, TASKS[0].vectors[0])
    assert all(torch.equal(aligned.tensors[name], generated.tensors[name]) for name in generated.tensors)
    assert aligned.provenance["start"] == adapter_sha256(generated)
    assert (aligned.rank, aligned.alpha, aligned.targets) == (generated.rank, generated.alpha, generated.targets)


def test_one_meta_epoch_is_first_order_maml_by_hand() -> None:
    """θ' = θ − α·∇support(θ), then Adam's first step, which is the rate times the sign of ∇query(θ')."""
    task = SourceTask("one", TASKS[0].generated[:1], TASKS[0].vectors[:1], TASKS[0].checkpoint)
    before, _ = train([task], meta_epochs=0)
    whole, _ = train([task], meta_epochs=1, chunks_per_step=4, inner_rate=0.5)
    vae = before.vae.train().requires_grad_()
    noise = torch.Generator().manual_seed(5)
    torch.randint(1, (), generator=noise)
    torch.randperm(1, generator=noise)
    told = before.standardise(task.vectors[0])

    def loss(model: FusionVAE) -> Tensor:
        which = torch.randperm(4, generator=noise)
        x, mask = cut_chunks(task.generated[0] / before.scale[:, None], 512)
        y, _ = cut_chunks(task.checkpoint / before.scale[:, None], 512)
        drawn = torch.randn(4, 4, generator=noise)
        correction, mean, log_variance = model(x[which], which, told, drawn)
        assert (mean.shape, log_variance.shape) == ((4, 4), (4, 4))
        return (x[which] + correction - y[which])[mask[which]].square().mean()  # λ is 0 in the first meta-epoch

    start = {name: parameter.detach().clone() for name, parameter in vae.named_parameters()}
    loss(vae).backward()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter -= 0.5 * parameter.grad
            parameter.grad = None
    loss(vae).backward()
    for name, parameter in whole.vae.named_parameters():
        slope = dict(vae.named_parameters())[name].grad
        sure = slope.abs() > 1e-5
        assert torch.allclose((start[name] - parameter)[sure], 1e-3 * slope.sign()[sure], rtol=2e-3, atol=1e-6), name
    assert vae.encoder[0].weight.grad.any()  # reached only because the inner step woke the last layer


def test_training_is_seeded_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    (one, curve), (same, again), (other, _) = train(), train(), train(seed=6)
    assert torch.equal(torch.rand(1), expected)
    assert one.sha256 == same.sha256
    assert curve == again
    assert one.sha256 != other.sha256


@pytest.mark.parametrize("kill_at", [1, 13])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, kill_at: int) -> None:
    checkpoint, seen = tmp_path / "aligner.checkpoint", []
    whole, curve = train()

    def kill(label: str, done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == kill_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=checkpoint, checkpoint_every_s=0, progress=kill)
    resumed, again = train(checkpoint=checkpoint, checkpoint_every_s=0, progress=kill)
    assert seen == list(range(1, 21))  # no meta-epoch was taken twice
    assert again == curve
    assert resumed.header == whole.header
    for name, value in whole.vae.state_dict().items():
        assert torch.equal(resumed.vae.state_dict()[name], value), name


def test_another_trainings_checkpoint_is_not_taken(tmp_path: Path) -> None:
    checkpoint = tmp_path / "aligner.checkpoint"
    train(checkpoint=checkpoint, checkpoint_every_s=0)
    moved = replace(TASKS[0], generated=TASKS[0].generated + 1)
    for changes in ({"seed": 9}, {"target": "generated"}, {"kl": 0.5}, {"tasks": [moved, *TASKS[1:]]}):
        alone, beside = train(**changes), train(**changes, checkpoint=checkpoint, checkpoint_every_s=1e9)
        assert alone[0].sha256 == beside[0].sha256


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    checkpoint = tmp_path / "aligner.checkpoint"
    train(checkpoint=checkpoint, checkpoint_every_s=0)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(InputError, match=r"aligner\.checkpoint: damaged"):
        train(checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "none was given"),
        ([replace(TASKS[0], checkpoint=None)], "one: the target is the checkpoint"),
        ([TASKS[0], replace(TASKS[1], generated=TASKS[1].generated[:, :2])], "two: .* do not fit"),
        ([replace(TASKS[0], vectors=TASKS[0].vectors[:1])], "one: .* do not fit"),
        ([replace(TASKS[0], vectors=TASKS[0].vectors / 0)], "one: holds values that are not finite"),
    ],
)
def test_unusable_sources_are_refused(tasks: list[SourceTask], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(tasks)


def test_a_training_that_diverges_ends_in_an_error() -> None:
    with pytest.raises(InputError, match=r"diverged in meta-epoch \d+"):
        train(inner_rate=1e30)


def test_a_vector_channel_that_never_varies_is_no_division_by_zero() -> None:
    flat = [replace(task, vectors=torch.full_like(task.vectors, 3.0)) for task in TASKS]
    aligner, _ = train(flat)
    aligned = aligner.align(adapter(TASKS[0].generated[0]), torch.full((WIDTH,), 4.0))
    assert all(bool(tensor.isfinite().all()) for tensor in aligned.tensors.values())


def test_a_layer_without_residuals_is_no_division_by_zero() -> None:
    keep = torch.tensor([0.0, 1.0, 1.0])[:, None]
    aligner, _ = train([replace(task, generated=task.generated * keep) for task in TASKS])
    assert bool((aligner.scale > 0).all())

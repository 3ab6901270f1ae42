"""The aligner: what training does, that a killed one goes on, what is refused, and what comes back from disk."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256, initial_lora
from cao.sealed import content_sha256
from tests.tools.tiny_training import TINY_ALIGNER
from tools.align_lora import aligner as module
from tools.align_lora.aligner import VECTOR_LIMIT, AlignTarget, TrainedAligner, load_aligner
from tools.align_lora.fusion_vae import FusionVAE, cut_chunks
from tools.align_lora.training import SourceTask, train_aligner
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

BASE, GENERATOR = "b" * 64, "c" * 64
SHAPES = {
    f"base_model.model.model.layers.{i}.{name}": shape
    for i in range(3)
    for name, shape in (("self_attn.q_proj", (32, 32)), ("mlp.gate_proj", (64, 32)))
}
LAYOUT = TokenLayout.of(SHAPES, 4, 8, (8, 8))
INITIAL = initial_lora(SHAPES, ("q_proj", "gate_proj"), 4, 8, 0, BASE)
WIDTH = 6
QUICK = TINY_ALIGNER
SCALES = torch.tensor([0.01, 0.1, 1.0])[:, None]


def source(name: str, seed: int, batches: int = 3) -> SourceTask:
    """A task whose generated residuals all miss its checkpoint in the same way, by half of the layer's scale."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batches, LAYOUT.layers, LAYOUT.length, generator=generator)
    vectors = 100 + torch.randn(batches, WIDTH, generator=generator)
    miss = torch.tensor([1.0, 0.5, -0.5, 0.0]).repeat(LAYOUT.length // 4)
    return SourceTask(name, rows * SCALES, vectors, (rows.mean(0) + miss) * SCALES)


TASKS = [source("one", 1), source("two", 2), source("three", 3)]


def train(tasks: list[SourceTask] = TASKS, target: AlignTarget = "checkpoint", seed: int = 5, **changes):
    options = {key: changes.pop(key) for key in ("progress", "checkpoint", "checkpoint_every_s") if key in changes}
    preset = QUICK.model_copy(update=changes)
    return train_aligner(
        *(tasks, LAYOUT, INITIAL), preset=preset, seed=seed, target=target, generator_sha256=GENERATOR, **options
    )


def adapter(residual: Tensor) -> LoraWeights:
    tensors = unflatten(flatten(INITIAL.tensors, LAYOUT) + residual, LAYOUT)
    return replace(INITIAL, tensors=tensors, provenance={"made_by": "test"})


def distance(one: LoraWeights, residual: Tensor) -> float:
    """In units of the layers' scales, root mean square."""
    other = flatten(INITIAL.tensors, LAYOUT) + residual
    return ((flatten(one.tensors, LAYOUT) - other) / SCALES).square().mean().sqrt().item()


def load(path: Path, **changes: object) -> TrainedAligner:
    return load_aligner(path, **{"layout": LAYOUT, "initial": INITIAL, "generator_sha256": GENERATOR, **changes})


@pytest.fixture(scope="module")
def trained() -> TrainedAligner:
    return train()[0]


@pytest.fixture
def file(trained: TrainedAligner, tmp_path: Path) -> Path:
    trained.save(tmp_path / "aligner.safetensors")
    return tmp_path / "aligner.safetensors"


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


def test_an_unseen_vector_is_held_within_bounds(trained: TrainedAligner) -> None:
    far = trained.standardise(torch.full((WIDTH,), 1e9))
    assert far.tolist() == [VECTOR_LIMIT] * WIDTH
    generated = adapter(TASKS[0].generated[0])
    one, other = (trained.align(generated, torch.full((WIDTH,), x)) for x in (1e9, 1e30))
    assert adapter_sha256(one) == adapter_sha256(other)


def test_aligning_in_blocks_is_aligning_at_once(trained: TrainedAligner, monkeypatch: pytest.MonkeyPatch) -> None:
    generated = adapter(TASKS[0].generated[0])
    whole = trained.align(generated, TASKS[0].vectors[0])
    monkeypatch.setattr(module, "BLOCK", 1)
    parts = trained.align(generated, TASKS[0].vectors[0])
    assert all(torch.allclose(whole.tensors[name], parts.tensors[name], atol=1e-6) for name in whole.tensors)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_never_aligned(trained: TrainedAligner, bad: float) -> None:
    good, vector = TASKS[0].generated[0], TASKS[0].vectors[0]
    broken = good.clone()
    broken[1, 7] = bad
    with pytest.raises(InputError, match="not finite"):
        trained.align(adapter(broken), vector)
    with pytest.raises(InputError, match="not finite"):
        trained.align(adapter(good), vector * bad)
    with pytest.raises(InputError, match="not finite"):
        trained.align(adapter(torch.full_like(good, 3e38)), vector)  # finite, but no longer after the encoder


def test_adapters_that_do_not_fit_are_refused(trained: TrainedAligner) -> None:
    generated, vector = adapter(TASKS[0].generated[0]), TASKS[0].vectors[0]
    with pytest.raises(InputError, match="base model dddddddddddd, the aligner for bbbbbbbbbbbb"):
        trained.align(replace(generated, base_sha256="d" * 64), vector)
    with pytest.raises(InputError, match="rank 4 and alpha 16, the aligner's layout 4 and 8"):
        trained.align(replace(generated, alpha=16), vector)
    with pytest.raises(InputError, match="does not fit"):
        trained.align(replace(generated, tensors=dict(list(generated.tensors.items())[:-2])), vector)
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        trained.align(generated, vector[:5])


def test_what_is_saved_comes_back(trained: TrainedAligner, file: Path, tmp_path: Path) -> None:
    loaded = load(file)
    assert loaded.header == trained.header
    assert loaded.sha256 == trained.sha256
    assert (loaded.header.target, loaded.header.vector_prompts) == ("checkpoint", 4)
    for name in ("scale", "mean", "std"):
        assert torch.equal(getattr(loaded, name), getattr(trained, name)), name
    for name, value in trained.vae.state_dict().items():
        assert torch.equal(loaded.vae.state_dict()[name], value.bfloat16().float()), name
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert {tensor.dtype for name, tensor in load_file(file).items() if name.startswith("vae.")} == {torch.bfloat16}
    generated, vector = adapter(TASKS[0].generated[0]), TASKS[0].vectors[0]
    one, other = (a.align(generated, vector).tensors for a in (trained, loaded))
    assert all(torch.allclose(one[name], other[name], atol=1e-2) for name in one)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_an_aligner_with_nan_is_never_written(tmp_path: Path) -> None:
    aligner, _ = train(meta_epochs=0)
    aligner.vae.codes.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"non-finite values in vae\.codes"):
        aligner.save(tmp_path / "aligner.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial": replace(INITIAL, base_sha256="d" * 64)}, "for base model bbbbbbbbbbbb, this one is dddddddddddd"),
        ({"generator_sha256": "d" * 64}, "for generator cccccccccccc, this one is dddddddddddd"),
        (
            {"layout": TokenLayout.of(SHAPES, 4, 8, (4, 16))},
            f"for token layout {LAYOUT.sha256[:12]}, this one is {TokenLayout.of(SHAPES, 4, 8, (4, 16)).sha256[:12]}",
        ),
    ],
)
def test_what_it_was_not_made_for_is_named(file: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(file, **change)


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: data[:20], lambda data: b"", None])
def test_truncated_and_missing_files_are_named(file: Path, damage: Callable[[bytes], bytes] | None) -> None:
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=rf"aligner\.safetensors: {'there is no' if damage is None else 'damaged'}"):
        load(file)


Edit = Callable[[dict[str, Tensor], dict[str, Any]], object]


def rewrite(file: Path, edit: Edit, *, sign: bool = False) -> None:
    """Change tensors or header in place; ``sign`` also renews the hash, as a forger would."""
    tensors = load_file(file)
    with safe_open(file, framework="pt") as stream:
        told = json.loads(stream.metadata()["about"])
    edit(tensors, told)
    if sign:
        del told["sha256"]
        told["sha256"] = content_sha256(told, tensors, "{name}{dtype}{shape}")
    save_file(tensors, file, metadata={"about": json.dumps(told)})


@pytest.mark.parametrize(
    "edit",
    [
        lambda tensors, told: tensors["vae.codes"].mul_(2),
        lambda tensors, told: tensors["scale"].mul_(1.001),
        lambda tensors, told: tensors.pop("vae.codes"),
        lambda tensors, told: tensors.update(more=torch.tensor(1.0)),
        lambda tensors, told: told.update(sha256="0" * 64),
        lambda tensors, told: told.update(sha256=None),
        lambda tensors, told: told["header"].update(generator_sha256="d" * 64),
        lambda tensors, told: told["header"].update(target="generated"),
    ],
)
def test_tampering_is_found(file: Path, edit: Edit) -> None:
    rewrite(file, edit)
    with pytest.raises(InputError, match=r"aligner\.safetensors: its content has hash [0-9a-f]{12}, recorded is "):
        load(file)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors, told: tensors["vae.codes"].fill_(float("inf")), "vae.codes holds values that are not finite"),
        (lambda tensors, told: tensors.pop("vae.codes"), "not those of the Fusion VAE"),
        (lambda tensors, told: tensors.update({"scale": torch.ones(4)}), "not those of the Fusion VAE"),
        (lambda tensors, told: tensors["std"].zero_(), "do not fit the token layout"),
        (lambda tensors, told: told["shape"].update(widths=[2**19] * 8), "not those of the Fusion VAE"),
        (lambda tensors, told: told["shape"].update(latent=-1), "its header cannot be read"),
        (lambda tensors, told: told["header"].update(target="something"), "its header cannot be read"),
        (lambda tensors, told: told.pop("shape"), "its header cannot be read"),
        (lambda tensors, told: told.update(format=2), "an aligner of format 2, this version reads 1"),
    ],
)
def test_a_forged_file_with_a_right_hash_is_still_checked(file: Path, edit: Edit, message: str) -> None:
    rewrite(file, edit, sign=True)
    with pytest.raises(InputError, match=message):
        load(file)


@pytest.mark.parametrize(
    "header", [{}, {"about": ""}, {"about": "[" * 9000}, {"about": "[1]"}, {"about": '{"a": NaN}'}]
)
def test_other_safetensors_files_are_no_aligners(tmp_path: Path, header: dict[str, str]) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "aligner.safetensors", metadata=header)
    with pytest.raises(InputError, match=r"aligner\.safetensors: not an aligner"):
        load(tmp_path / "aligner.safetensors")

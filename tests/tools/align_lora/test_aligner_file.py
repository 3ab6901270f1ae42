"""The aligner's file: what is saved comes back; what is damaged, forged or made for another model is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cao.errors import InputError
from tests.tools.align_lora.tiny_aligners import GENERATOR, INITIAL, LAYOUT, SHAPES, TASKS, adapter, train
from tests.tools.forging import Edit, rewrite
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.aligner_file import load_aligner
from tools.generate_lora.tokens import TokenLayout


def load(path: Path, **changes: object) -> TrainedAligner:
    return load_aligner(path, **{"layout": LAYOUT, "initial": INITIAL, "generator_sha256": GENERATOR, **changes})


@pytest.fixture
def file(trained: TrainedAligner, tmp_path: Path) -> Path:
    trained.save(tmp_path / "aligner.safetensors")
    return tmp_path / "aligner.safetensors"


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


SEAL = ("sha256", "{name}{dtype}{shape}")


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
        (lambda tensors, told: tensors.pop("vae.codes"), "not those of the VAE"),
        (lambda tensors, told: tensors.update({"scale": torch.ones(4)}), "not those of the VAE"),
        (lambda tensors, told: tensors["std"].zero_(), "do not fit the token layout"),
        (lambda tensors, told: told["shape"].update(widths=[2**19] * 8), "not those of the VAE"),
        (lambda tensors, told: told["shape"].update(latent=-1), "its header cannot be read"),
        (lambda tensors, told: told["header"].update(target="something"), "its header cannot be read"),
        (lambda tensors, told: told.pop("shape"), "its header cannot be read"),
        (lambda tensors, told: told.update(format=2), "an aligner of format 2, this version reads 1"),
    ],
)
def test_a_forged_file_with_a_right_hash_is_still_checked(file: Path, edit: Edit, message: str) -> None:
    rewrite(file, edit, SEAL)
    with pytest.raises(InputError, match=message):
        load(file)


@pytest.mark.parametrize(
    "header", [{}, {"about": ""}, {"about": "[" * 9000}, {"about": "[1]"}, {"about": '{"a": NaN}'}]
)
def test_other_safetensors_files_are_no_aligners(tmp_path: Path, header: dict[str, str]) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "aligner.safetensors", metadata=header)
    with pytest.raises(InputError, match=r"aligner\.safetensors: not an aligner"):
        load(tmp_path / "aligner.safetensors")

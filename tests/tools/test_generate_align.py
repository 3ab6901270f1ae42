"""Generate and align: what they say where nothing is trained, and the way an adapter takes where something is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from tools.align_lora import align_lora
from tools.generate_lora import generate_lora

COMMAND = "python -m agent.consolidate --model tiny --preset embedded"


class MaskedSum:
    """A generator small enough to check by hand: the initialisation plus the sum of the states that are tokens."""

    def __init__(self, lm: LanguageModel) -> None:
        self.start = lm.fresh_lora(0)

    def generate(self, conditioning: Tensor, mask: Tensor) -> LoraWeights:
        total = (conditioning * mask.unsqueeze(-1)).sum()
        tensors = {name: tensor + total for name, tensor in self.start.tensors.items()}
        return LoraWeights(self.start.rank, self.start.alpha, self.start.targets, tensors, self.start.base_sha256)


def test_without_a_generator_there_is_a_reason_and_a_command(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    result = generate_lora(tmp_path / "conditioning.safetensors", lm=tiny_lm, store=tmp_path)
    assert result.adapter is None
    assert result.reason == "no trained generator exists for the base model tiny"
    assert result.command == COMMAND
    assert not list(tmp_path.iterdir())


def test_a_generated_adapter_is_stored(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    file = tmp_path / "conditioning.safetensors"
    mask = torch.tensor([[True, False]])
    save_file({"conditioning": torch.tensor([[[1.0, 2.0], [4.0, 8.0]]]), "mask": mask}, file)
    result = generate_lora(file, lm=tiny_lm, store=tmp_path / "store", generator=MaskedSum(tiny_lm))
    assert result.adapter is not None
    assert (result.reason, result.command) == ("", "")
    weights, start = load_adapter(Path(result.adapter.path), tiny_lm.sha256), tiny_lm.fresh_lora(0)
    assert all(torch.equal(weights.tensors[name], start.tensors[name] + 3.0) for name in start.tensors)


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all"])
def test_a_bad_conditioning_file_is_named(tiny_lm: LanguageModel, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "conditioning.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match="no conditioning tensor"):
        generate_lora(file, lm=tiny_lm, store=tmp_path, generator=MaskedSum(tiny_lm))


def test_aligning_says_what_is_missing(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    nothing = align_lora(None, ["a prompt"], lm=tiny_lm, store=tmp_path)
    assert (nothing.adapter, nothing.reason, nothing.command) == (
        None,
        "there is no generated adapter to align",
        COMMAND,
    )
    generated = save_adapter(tmp_path, tiny_lm.fresh_lora(0), "tiny")
    unaligned = align_lora(generated, ["a prompt"], lm=tiny_lm, store=tmp_path)
    assert unaligned.adapter is None
    assert unaligned.reason == "no trained aligner exists for the base model tiny"
    assert unaligned.command == COMMAND

"""Generate and align: what they say where nothing is trained, and the way an adapter takes where something is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from tools.align_lora import align_lora
from tools.generate_lora import generate_lora

COMMAND = "run: python -m agent.consolidate --model nowhere/tiny --install"


class MaskedSum:
    """A generator small enough to check by hand: the initialisation plus the sum of the states that are tokens."""

    prompts = 1

    def __init__(self, lm: LanguageModel) -> None:
        self.start = lm.fresh_lora(0)

    def generate(self, conditioning: Tensor, mask: Tensor) -> LoraWeights:
        total = (conditioning * mask.unsqueeze(-1)).sum()
        tensors = {name: tensor + total for name, tensor in self.start.tensors.items()}
        return LoraWeights(self.start.rank, self.start.alpha, self.start.targets, tensors, self.start.base_sha256)


class TwoTokens:
    """An encoder with two token states a prompt, of which the second is padding."""

    sha256 = ""

    def tokens(self, prompts: list[str]) -> list[int]:
        return [1 for _ in prompts]

    def condition(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        states = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).expand(len(prompts), 2, 2)
        return states, torch.tensor([[True, False]]).expand(len(prompts), 2)


def test_without_a_generator_there_is_a_reason_and_a_command(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    result = generate_lora(["a prompt"], lm=tiny_lm, store=tmp_path, encoder=TwoTokens(), generator=None)
    assert result.adapter is None
    assert result.reason == "no trained generator exists for the base model tiny"
    assert result.command == COMMAND
    assert not list(tmp_path.iterdir())


def test_a_generated_adapter_is_stored(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    laps: list[str] = []
    result = generate_lora(
        ["a prompt", " ", "A  prompt"],
        lm=tiny_lm,
        store=tmp_path / "store",
        encoder=TwoTokens(),
        generator=MaskedSum(tiny_lm),
        lap=laps.append,
    )
    assert laps == ["encode", "generate"]
    assert result.kept == (0,)
    assert result.adapter is not None
    assert (result.reason, result.command) == ("", "")
    weights, start = load_adapter(Path(result.adapter.path), tiny_lm.sha256), tiny_lm.fresh_lora(0)
    assert all(torch.equal(weights.tensors[name], start.tensors[name] + 3.0) for name in start.tensors)


def test_no_prompt_to_generate_from_is_refused(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    for nothing in ([], [" \n", "\u200b"]):
        with pytest.raises(InputError, match="no prompt is left"):
            generate_lora(nothing, lm=tiny_lm, store=tmp_path, encoder=TwoTokens(), generator=MaskedSum(tiny_lm))


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
    fold = align_lora(generated, ["a prompt"], lm=tiny_lm, store=tmp_path, variant="fold-2")
    assert (fold.adapter, fold.reason, fold.command) == (
        None,
        "no aligner was trained behind generator “fold-2”",
        "",
    )

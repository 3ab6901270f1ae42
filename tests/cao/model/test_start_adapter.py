"""Adapters of every kind that PEFT writes give, put on here, the logits that PEFT gives."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.start_adapter import attach_adapter
from tests.conftest import TINY

IDS = torch.tensor([list(range(5, 25))])
ATTENTION = ["q_proj", "v_proj"]
PLAIN: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ATTENTION},
    "rsLoRA": {"use_rslora": True, "target_modules": ATTENTION},
    "patterns of rank and alpha": {
        "target_modules": ATTENTION,
        "rank_pattern": {"layers.0.self_attn.q_proj": 3},
        "alpha_pattern": {"v_proj": 2.5},
    },
    "some layers": {"target_modules": ATTENTION, "layers_to_transform": [1]},
    "modules left out": {"target_modules": ATTENTION, "exclude_modules": r".*layers\.0\.self_attn\.v_proj"},
    "all linear layers": {"target_modules": "all-linear"},
    "a pattern": {"target_modules": r".*\.1\..*(q|down)_proj"},
    "whole names": {"target_modules": ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"]},
    "a float alpha": {"target_modules": ATTENTION, "lora_alpha": 12.5},
    "an odd rank": {"target_modules": ATTENTION, "r": 3},
    "gaussian": {"target_modules": ATTENTION, "init_lora_weights": "gaussian"},
    "PiSSA": {"target_modules": ATTENTION, "init_lora_weights": "pissa"},
    "OLoRA": {"target_modules": ATTENTION, "init_lora_weights": "olora"},
    "PiSSA by rsLoRA": {"target_modules": ATTENTION, "init_lora_weights": "pissa", "use_rslora": True},
}
MERGED: dict[str, dict[str, Any]] = {
    "DoRA": {"target_modules": ATTENTION, "use_dora": True},
    "biases": {"target_modules": ATTENTION, "bias": "lora_only"},
    "a trained norm": {"target_modules": ATTENTION, "modules_to_save": ["norm"]},
    "a trained linear layer": {"target_modules": ATTENTION, "modules_to_save": ["gate_proj"]},
}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, use_cache=False).logits[0].float()
    return found


@pytest.fixture
def exact(tiny_model_folder: Path) -> Callable[[], LanguageModel]:
    """Load the tiny model in float32."""
    return lambda: load_language_model(TINY, path=str(tiny_model_folder), dtype="float32", offline=True)


@pytest.fixture
def make(exact: Callable[[], LanguageModel], tmp_path: Path) -> Callable[[dict[str, Any]], tuple[Path, Tensor]]:
    """Have PEFT write an adapter of some kind, and say what it gives when it loads it again."""

    def made(options: dict[str, Any]) -> tuple[Path, Tensor]:
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(
                exact().model, LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options})
            )
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn_like(parameter)  # stands for a training
            model.save_pretrained(tmp_path)
            return tmp_path, logits(PeftModel.from_pretrained(exact().model, str(tmp_path)).eval())

    return made


@pytest.mark.parametrize("kind", PLAIN)
def test_what_adds_matrices_becomes_a_plain_adapter(
    kind: str, exact: Callable[[], LanguageModel], make: Callable[[dict[str, Any]], tuple[Path, Tensor]]
) -> None:
    folder, expected = make(PLAIN[kind])
    lm = exact()
    bare, sha256 = logits(lm.model), lm.sha256
    weights = attach_adapter(lm, folder)
    assert weights is not None
    assert lm.sha256 == weights.base_sha256 == sha256
    torch.testing.assert_close(logits(lm.model), bare, atol=0, rtol=0)  # the base model is as it was
    with lm.adapted(weights):
        torch.testing.assert_close(logits(lm.model), expected, atol=1e-4, rtol=1e-4)
    assert (expected - bare).abs().max() > 0.05


@pytest.mark.parametrize("kind", MERGED)
def test_what_is_more_is_merged_and_the_model_is_another(
    kind: str, exact: Callable[[], LanguageModel], make: Callable[[dict[str, Any]], tuple[Path, Tensor]]
) -> None:
    folder, expected = make(MERGED[kind])
    lm, other = exact(), exact()
    assert attach_adapter(lm, folder) is None
    torch.testing.assert_close(logits(lm.model), expected, atol=1e-4, rtol=1e-4)
    assert lm.sha256 != other.sha256
    attach_adapter(other, folder)
    assert lm.sha256 == other.sha256
    weights = lm.fresh_lora(0)
    weights.tensors.update({name: tensor + 0.1 for name, tensor in weights.tensors.items()})
    with lm.adapted(weights):  # and it can be built on
        assert (logits(lm.model) - expected).abs().max() > 0.05
    torch.testing.assert_close(logits(lm.model), expected, atol=1e-4, rtol=1e-4)


def test_names_with_the_adapters_own_and_other_dtypes_are_read(
    exact: Callable[[], LanguageModel], make: Callable[[dict[str, Any]], tuple[Path, Tensor]]
) -> None:
    folder, expected = make(PLAIN["plain"])
    file = folder / "adapter_model.safetensors"
    tensors = {
        re.sub(r"\.(lora_[AB])\.weight", r".\1.default.weight", name): tensor.half()
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file)
    lm = exact()
    weights = attach_adapter(lm, folder)
    with lm.adapted(weights):
        torch.testing.assert_close(logits(lm.model), expected, atol=2e-2, rtol=2e-2)


def test_what_is_another_model_when_merged_is_refused(
    exact: Callable[[], LanguageModel], make: Callable[[dict[str, Any]], tuple[Path, Tensor]]
) -> None:
    folder, _ = make({"target_modules": ["q_proj", "embed_tokens"]})  # the embedding is also the head
    with pytest.raises(InputError, match="merge it into a model folder first"):
        attach_adapter(exact(), folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init_lora_weights": "corda"}, "whose base weights the adapter does not hold"),
        ({"peft_type": "IA3"}, "only plain LoRA"),
        ({"r": 8}, "does not fit its configuration|size mismatch"),
        ({"target_modules": ["no_such_module"]}, "does not fit tiny"),
        ({"use_dora": True}, "magnitude"),
        ({"rank_pattern": {"(": 3}, "use_rslora": True}, "does not fit|missing|of no layer"),
    ],
)
def test_what_cannot_be_put_on_is_refused_in_one_line(
    change: dict[str, Any],
    words: str,
    exact: Callable[[], LanguageModel],
    make: Callable[[dict[str, Any]], tuple[Path, Tensor]],
) -> None:
    folder, _ = make(PLAIN["rsLoRA"])
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    lm = exact()
    bare = logits(lm.model)
    with pytest.raises(InputError, match=words) as refused:
        attach_adapter(lm, folder)
    assert "\n" not in str(refused.value)
    torch.testing.assert_close(logits(lm.model), bare, atol=0, rtol=0)

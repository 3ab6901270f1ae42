"""Models of a real size with seeded random weights, and the training preset of each with one step a phase."""

import json
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from agent.train.generator.settings import Settings
from cao.files import sha256_file, write_json
from cao.machine.assets import smollm2_gguf
from cao.model.loading import convert_gguf
from cao.types import Dtype, Record
from tools.detect_drift.reference import IN_DOMAIN

SEED = 0
_QWEN: dict[str, object] = {
    "vocab_size": 151_936,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
}
_QWEN |= {"max_position_embeddings": 32_768, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
_MORE_SOURCES = 4


class Size(Record):
    """A model's configuration and what is trained for it.

    Attributes:
        name: a known model's; empty where it is none, and its profile is inferred.
        config: keys of a Qwen2 configuration.
        preset: of consolidation.
        values: what is laid over the preset, so that each phase takes one step.
        sources: the tasks that are learnt from.
        task: whose questions are asked.
        tokens: of the vocabulary's texts; the other rows of the embedding are padding.
    """

    name: str
    config: dict[str, object]
    preset: str
    values: dict[str, object]
    sources: tuple[str, ...] = IN_DOMAIN[:_MORE_SOURCES]
    task: str = "arc_easy"
    tokens: int = 151_665

    @property
    def parameters(self) -> int:
        """Weights of the model, counted without making it."""
        with torch.device("meta"):
            model = Qwen2ForCausalLM(Qwen2Config(**self.config))
        model.tie_weights()
        return sum(each.numel() for each in model.parameters())


ONE_STEP: dict[str, object] = {
    "leave_out": [],
    "checkpoints": {"warm_steps": 0, "kept_steps": 1, "samples": 100},
    "generator": {"steps": 1},
    "aligner": {"meta_epochs": 1, "vector_prompts": 8},
    "prompts_encoded": 64,
    "validated": 1,
    "pairs": 1,
}
"""One step of each phase; batch, tasks a step and all widths stay the preset's."""

SIZES = {
    "qwen2.5-0.5b": Size(
        name="qwen2.5-0.5b",
        config={
            **{**_QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24},
            "num_attention_heads": 14,
        },
        preset="paper-0.5b",
        values=ONE_STEP,
    ),
    "qwen2.5-1.5b": Size(
        name="qwen2.5-1.5b",
        config={
            **{**_QWEN, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28},
            "num_attention_heads": 12,
        },
        preset="paper-1.5b",
        values=ONE_STEP,
    ),
}
"""Source: the published configurations of both models; CAO-LLM Table 9 for the presets."""


def model_arguments(size: Size, folder: Path) -> list[str]:
    """Return how a command is told of the model.

    Args:
        size: which.
        folder: with its weights.
    """
    return ["--model", size.name, "--model-path", str(folder)] if size.name else ["--model", str(folder)]


def settings_of(size: Size, folder: Path, dtype: Dtype) -> Settings:
    """Return the settings of a consolidation beside the model's folder."""
    model = {"model": size.name, "model_path": str(folder)} if size.name else {"model": str(folder)}
    common = {"preset": size.preset, "sources": list(size.sources), "out": str(folder.parent), "dtype": dtype}
    return Settings(**model, **common, offline=True, values=size.values)


def write_model(size: Size, folder: Path) -> None:
    """Write a model with seeded random weights, bfloat16, and a tokenizer of as many tokens as it has.

    Args:
        size: which.
        folder: for it.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # never whole in float32
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = Qwen2ForCausalLM(Qwen2Config(**size.config, eos_token_id=None, dtype=torch.bfloat16))
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    write_tokenizer(size.tokens, folder)


def write_tokenizer(tokens: int, folder: Path) -> None:
    """Write SmolLM2's tokenizer with its vocabulary filled up by tokens that no text has.

    Args:
        tokens: of the vocabulary.
        folder: for it.
    """
    gguf = smollm2_gguf()
    source = convert_gguf(gguf, sha256_file(gguf))
    for file in (*source.glob("tokenizer*"), *source.glob("chat_template*")):
        shutil.copy(file, folder / file.name)
    path = folder / "tokenizer.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = stated["model"]["vocab"]
    more = max(0, tokens - len(PreTrainedTokenizerFast.from_pretrained(source)))
    first = max(vocabulary.values()) + 1
    vocabulary |= {f"\ue000{number}": first + number for number in range(more)}  # no merge leads there
    write_json(path, stated)

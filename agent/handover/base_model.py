"""The base model that a run was made with, or a refusal; and a model as others load it."""

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from agent.config import make_config
from agent.record.schema import RunRecord
from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model


def plain_model(source: str, *, offline: bool) -> PreTrainedModel:
    """Return a model as others load it, by transformers alone: float32, of safetensors.

    Args:
        source: its folder or hub id.
        offline: never touch the network.

    Raises:
        OSError: it is not at hand.
        ValueError: it is none that transformers knows.
    """
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, use_safetensors=True, local_files_only=offline
    )
    return model


def base_of(run: RunRecord, wish: str, *, offline: bool) -> LanguageModel:
    """Return the run's base model on the CPU in float32.

    Args:
        run: whose base model.
        wish: the option that needs it, for messages.
        offline: never touch the network.

    Raises:
        InputError: its weights have changed, or the run was made on top of another adapter.
        UnavailableError: it is not at hand.
    """
    if run.config.get("start_adapter"):
        raise InputError(f"{wish}: the run was made on top of an adapter of your own; merge both with PEFT instead")
    config = make_config(None, {**run.config, "device": "cpu", "dtype": "float32", "offline": offline}, [])
    lm = load_model(config)
    if lm.sha256 != run.model_sha256:
        raise InputError(f"{lm.source}: holds other weights than run {run.run_id} was made with")
    return lm

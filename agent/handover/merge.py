"""The base model's weights with an adapter merged, as a folder that transformers loads."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from agent.config import make_config
from agent.record.schema import RunRecord
from cao.errors import InputError
from cao.model.loading import load_model


def merge(run: RunRecord, adapter: Path, to: Path, *, offline: bool) -> None:
    """Write the merged model and its tokenizer.

    Args:
        run: whose base model.
        adapter: a PEFT folder.
        to: where to.
        offline: never touch the network.

    Raises:
        InputError: the base model has changed, or the run was made on top of another adapter.
        UnavailableError: the base model is not at hand.
    """
    if run.config.get("start_adapter"):
        raise InputError("--merge: the run was made on top of an adapter of your own; merge both with PEFT instead")
    config = make_config(None, {**run.config, "device": "cpu", "dtype": "float32", "offline": offline}, [])
    lm = load_model(config)
    if lm.sha256 != run.model_sha256:
        raise InputError(f"{lm.source}: holds other weights than run {run.run_id} was made with")
    plain = AutoModelForCausalLM.from_pretrained(lm.source, dtype=torch.float32, local_files_only=offline)
    merged = PeftModel.from_pretrained(plain, str(adapter)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(to, safe_serialization=True)
    lm.tokenizer.save_pretrained(to)

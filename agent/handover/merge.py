"""The base model's weights with an adapter merged, as a folder that transformers loads."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from agent.config import make_config
from agent.handover.settings import CAO_FILE, Handed
from agent.record.schema import RunRecord
from cao.errors import InputError
from cao.files import write_atomic
from cao.model.loading import load_model, weights_sha256

MERGED = "merged"


def merge(run: RunRecord, folder: Path, handed: Handed, *, offline: bool) -> None:
    """Write the merged model, its tokenizer and its ``cao.json`` to a folder below the adapter's.

    Args:
        run: whose base model.
        folder: a PEFT folder.
        handed: what of the model is no weights.
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
    to = folder / MERGED
    merged = PeftModel.from_pretrained(plain, str(folder)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(to, safe_serialization=True)
    lm.tokenizer.save_pretrained(to)
    itself = {"merged": True, "members": (None,), "base_sha256": weights_sha256(to)}
    write_atomic(to / CAO_FILE, handed.model_copy(update=itself).text())

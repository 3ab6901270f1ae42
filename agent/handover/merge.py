"""The base model's weights with an adapter merged, as a folder that transformers loads."""

from pathlib import Path

from peft import PeftModel

from agent.handover.base_model import plain_model
from agent.handover.settings import CAO_FILE, Handed
from cao.files import write_atomic
from cao.model.language_model import LanguageModel
from cao.model.loading import weights_sha256

MERGED = "merged"


def merge(lm: LanguageModel, folder: Path, handed: Handed, *, offline: bool) -> None:
    """Write the merged model, its tokenizer and its ``cao.json`` to a folder below the adapter's.

    Args:
        lm: the base model.
        folder: a PEFT folder.
        handed: what of the model is no weights.
        offline: never touch the network.
    """
    plain = plain_model(lm.source, offline=offline)
    to = folder / MERGED
    merged = PeftModel.from_pretrained(plain, str(folder)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(to, safe_serialization=True)
    lm.tokenizer.save_pretrained(to)
    itself = {"merged": True, "members": (None,), "base_sha256": weights_sha256(to)}
    write_atomic(to / CAO_FILE, handed.model_copy(update=itself).text())

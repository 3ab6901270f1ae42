"""Does the adapter of a folder act? Answers with it and without it are compared, here or on a server."""

import json
from pathlib import Path

from agent.handover.acting import both
from agent.handover.comparison import Verdict, compared
from agent.handover.options import VerifyOptions
from agent.handover.served import on_server
from cao.errors import InputError
from cao.files import sha256_file
from cao.machine.assets import smollm2_gguf
from cao.model.adapters import LoraWeights
from cao.model.loading import convert_gguf
from cao.model.profiles import EMBEDDED, MODELS
from cao.model.soft_prompt.either import load_carried
from cao.tasks.prompt_file import read_prompts
from cao.types import CONFIG_FILE

PROMPTS = (
    "Question: Which animal can fly?\nAnswer:",
    "Question: How much is 12 + 7?\nAnswer:",
    "The capital of France is",
    "Question: Is the sea salty?\nAnswer:",
    "Water boils at",
    "Once upon a time",
)
MOST_PROMPTS = 16


def verify(options: VerifyOptions) -> Verdict:
    """Return whether the adapter of a folder acts.

    Raises:
        InputError: the folder holds no sound adapter, or something that was asked for cannot be.
        UnavailableError: the base model or the server is not at hand.
    """
    weights = load_carried(options.folder)
    prompts = [one.prompt for one in read_prompts(options.prompts)] if options.prompts else list(PROMPTS)
    prompts = prompts[:MOST_PROMPTS]
    if not prompts:
        raise InputError(f"{options.prompts}: holds no prompt")
    lora = isinstance(weights, LoraWeights)
    if lora and all(not bool(tensor.any()) for name, tensor in weights.tensors.items() if ".lora_B." in name):
        reason = "every lora_B is zero, so it adds nothing to the base model"
        return Verdict(acts=False, where="here", prompts=0, changed=0, largest=0.0, noise=0.0, reason=reason)
    if options.server and not lora:
        raise InputError(f"{options.folder}: holds a soft prompt, and servers load LoRA alone; leave --server out")
    if options.server:
        return on_server(options.server, options.base, options.adapter, prompts, offline=options.offline)
    base = options.base or _at_hand(_named_base(options.folder))
    first, second, adapted = both(options.folder, base, prompts, offline=options.offline)
    return compared("here", first, second, adapted)


def _at_hand(base: str) -> str:
    """Return the embedded model's folder where that is what a hub id stands for, else the id or folder itself."""
    profile = next((each for each in MODELS.values() if each.published == base), None)
    if profile is None or profile.source != EMBEDDED:
        return base
    gguf = smollm2_gguf()
    return str(convert_gguf(gguf, sha256_file(gguf)))


def _named_base(folder: Path) -> str:
    named = json.loads((folder / CONFIG_FILE).read_text()).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise InputError(f"{folder / CONFIG_FILE}: names no base model; give it with --base")
    return named

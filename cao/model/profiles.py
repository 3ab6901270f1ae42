"""The model profiles: what a name on the command line stands for."""

from dataclasses import dataclass

from cao.errors import InputError
from cao.types import AnswerStyle

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices that carry LoRA. Source: CAO-LLM E.3."""


@dataclass(frozen=True)
class ModelProfile:
    """What differs between base models.

    Attributes:
        name: the name on the command line.
        source: ``embedded:smollm2`` or a hub id; a folder given with ``--set model_path=DIR`` takes its place.
        answer_style: whether likelihood ranking scores the answers' texts or their letters.
        lora_rank: r.
        lora_alpha: α; the scale is α/r.
        preset: the consolidation preset that trains a generator for this model.
    """

    name: str
    source: str
    answer_style: AnswerStyle
    lora_rank: int
    lora_alpha: int
    preset: str


MODELS: dict[str, ModelProfile] = {
    profile.name: profile
    for profile in (
        ModelProfile("smollm2-135m", "embedded:smollm2", "text", 4, 16, "embedded"),
        ModelProfile("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", "letter", 8, 16, "paper-0.5b"),
        ModelProfile("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", "letter", 16, 16, "paper-1.5b"),
    )
}


def find_profile(name: str, of: str = "") -> ModelProfile:
    """Return the profile that a name stands for.

    Args:
        name: a key of ``MODELS``.
        of: what the model is for, where it is not the only one; a word or two for the message.

    Raises:
        InputError: no model has this name.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}{of and f' for {of}'}; known: {', '.join(MODELS)}")
    return MODELS[name]

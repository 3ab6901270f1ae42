"""The model profiles: what ``--model`` may name, and what differs between base models.

A known name stands for a TOML file in this folder, so a new profile is a file. The profile of a folder, a GGUF file or
a hub id is inferred (``cao.model.profiles.inferred``). A table ``[profile]`` sets any key over either.
"""

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from cao.errors import InputError
from cao.profile_settings import Alpha, Names, ProfileSettings, Rank
from cao.types import AnswerStyle

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices that carry LoRA. Source: CAO-LLM E.3."""

GGUF = ".gguf"
EMBEDDED = "embedded:smollm2"
"""The source of the model that comes as a package."""
NOT_THE_HUBS = "These are the embedded file's weights, dequantised; those of the same model on the hub differ"
"""What who puts an adapter of the embedded model on the hub's weights should know."""
_ADDRESS = re.compile(r"https?:", re.IGNORECASE)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelProfile:
    """What differs between base models.

    Attributes:
        name: the name on the command line; of an inferred profile, the last part of what was named there.
        source: ``embedded:smollm2``, a hub id, or the path of a folder or a GGUF file; a folder given with ``--set
            model_path=DIR`` takes its place.
        answer_style: whether likelihood ranking scores the answers' texts or their letters.
        lora_rank: r.
        lora_alpha: α; the scale is α/r.
        preset: the consolidation preset that trains a generator for this model.
        lora_targets: last names of the linear layers that carry LoRA.
        parameters: all weights; 0 where it is not known.
        trunk: weights of the trunk's products.
        head: weights of the head's product.
        adapter: scalars of a LoRA adapter of rank 1, the inputs and outputs of its matrices; 0 where it is not known.
        chat: whether prompts are put into the tokenizer's chat template, where it has one.
        start_token: what stands before a text that has nothing before it; None for the tokenizer's own.
        end_tokens: what ends a text, besides the model's own.
        measure_style: whether the answer style is measured when the model is loaded.
        architecture: the class of the model, of an inferred profile.
        published: the hub id under which anybody gets the model; empty for one of the user's own.
        licence: of the weights, which an adapter of them carries on; empty where it is not known.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    source: Annotated[str, Field(min_length=1)]
    answer_style: AnswerStyle
    lora_rank: Rank
    lora_alpha: Alpha
    preset: str
    lora_targets: Names = LORA_TARGETS
    parameters: Annotated[int, Field(ge=0)] = 0
    trunk: Annotated[int, Field(ge=0)] = 0
    head: Annotated[int, Field(ge=0)] = 0
    adapter: Annotated[int, Field(ge=0)] = 0
    chat: bool = True
    start_token: str | None = None
    end_tokens: tuple[str, ...] = ()
    measure_style: bool = False
    architecture: str = ""
    published: str = ""
    licence: str = ""

    @property
    def dequantised(self) -> bool:
        """Whether its weights are the embedded file's, which are not those that are published under its name."""
        return self.source == EMBEDDED

    @property
    def on_hub(self) -> bool:
        """Whether the weights come from the hub or its cache: the source is no package, file or folder."""
        here = self.dequantised or self.source.lower().endswith(GGUF)
        return not here and not Path(self.source).is_absolute()

    def sentence(self) -> str:
        """Return the profile on one line."""
        style = f"answers by {self.answer_style}" if not self.measure_style else "answer style measured when loaded"
        parts = [
            self.architecture,
            f"LoRA r {self.lora_rank} α {self.lora_alpha} on {', '.join(self.lora_targets)}",
            style,
            "chat template" if self.chat else "no chat template",
            f"starts with {self.start_token}" if self.start_token else "",
            f"ends with {', '.join(self.end_tokens)}" if self.end_tokens else "",
        ]
        return "; ".join(filter(None, parts))


def laid_over(profile: ModelProfile, settings: ProfileSettings) -> ModelProfile:
    """Return a profile with what a configuration sets over it."""
    changes = settings.model_dump(exclude_none=True)
    style = changes.pop("answer_style", None)
    if style:
        changes["measure_style"] = style == "measured"
        changes |= {} if style == "measured" else {"answer_style": style}
    return replace(profile, **changes)


def settings_of(profile: ModelProfile) -> dict[str, object]:
    """Return what a configuration could set over a profile, as it is, in JSON values."""
    values = {name: getattr(profile, name) for name in ProfileSettings.model_fields}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def hub_address() -> str:
    """Return where the hub is: the environment's, else the public one."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _read() -> dict[str, ModelProfile]:
    """Return the profiles of this folder by their names, the smallest model first."""
    reader = TypeAdapter(ModelProfile)
    files = sorted(Path(__file__).parent.glob("*.toml"))
    found = [reader.validate_python(tomllib.loads(file.read_text(encoding="utf-8"))) for file in files]
    return {profile.name: profile for profile in sorted(found, key=lambda each: each.parameters)}


MODELS: dict[str, ModelProfile] = _read()


def known(name: str) -> ModelProfile | None:
    """Return the profile that a name or a hub id stands for, None where it is none of ``MODELS``."""
    return MODELS.get(name) or next((each for each in MODELS.values() if each.source == name), None)


def check_model(name: str, of: str = "") -> None:
    """Raise InputError where a text is no known name, and neither a folder, a GGUF file nor a hub id.

    Args:
        name: what ``--model`` was given.
        of: what the model is for, where it is not the only one.
    """
    if known(name) or is_place(name) or _HUB_ID.fullmatch(name):
        return
    if _ADDRESS.match(name):
        raise InputError(
            f"a model that a server runs{of and f' for {of}'} cannot be adapted here, because its weights are not here;"
            " measure it by python -m eval.score --server URL, or give its folder, a .gguf file or a hub id as --model"
        )
    why = ""
    if os.sep in name.replace("\0", ""):
        here = "\0" not in name and Path(name).exists()
        why = ", which is neither a folder nor a .gguf file" if here else ", and there is no such folder or file"
    what = f"unknown model {name!r}{of and f' for {of}'}{why}; known: {', '.join(MODELS)}"
    raise InputError(f"{what}, or give a model's folder, a .gguf file or a hub id")


def is_place(name: str) -> bool:
    """Return whether what ``--model`` was given is a folder or a GGUF file here; a known name never is."""
    if not name or "\0" in name or known(name):
        return False
    path = Path(name)
    return path.is_dir() or (path.suffix.lower() == GGUF and path.is_file())


def absolute_model(name: str) -> str:
    """Return what ``--model`` was given, a folder's or file's path made absolute."""
    return os.path.abspath(name) if is_place(name) else name


def short_name(reference: str) -> str:
    """Return what to call the model of a folder, a GGUF file or a hub id; it is no name of ``MODELS``."""
    last = Path(reference.rstrip("/")).name
    last = last[: -len(GGUF)] if last.lower().endswith(GGUF) else last
    slug = re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._") or "model"
    return f"{slug}-own" if slug in MODELS else slug


def rank_and_alpha(width: int) -> tuple[int, int]:
    """Return r and α for a model's width, so that SmolLM2-135M and both Qwen2.5 models have theirs.

    Source: CAO-LLM E.3 for widths 896 and 1536; the rest is this project's.
    """
    return (4, 16) if width < 768 else (8, 16) if width < 1280 else (16, 16)

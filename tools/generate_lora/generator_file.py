"""A generator's file: one safetensors file whose header says what the generator is for and hashes all of it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, write_atomic
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import TokenLayout

FORMAT = "cao-generator-1"


@dataclass(frozen=True)
class Identity:
    """What a generator is for.

    Attributes:
        base_sha256: the base model.
        encoder_sha256: the frozen encoder that conditions it.
        initial_seed: seed of the LoRA initialisation that every checkpoint started from.
        initial_sha256: hash of that initialisation; it is drawn again at loading and has to agree.
    """

    base_sha256: str
    encoder_sha256: str
    initial_seed: int
    initial_sha256: str


@dataclass(frozen=True)
class About:
    """A file's header, less its hash.

    Attributes:
        ladder: the decoder's sizes.
        layout: the tokens.
        mode: how residuals are normalised.
        identity: base model, encoder, initialisation.
        made: how it was trained.
    """

    ladder: Ladder
    layout: TokenLayout
    mode: StatisticsMode
    identity: Identity
    made: dict[str, Any]


def write(path: Path, about: About, tensors: dict[str, Tensor]) -> str:
    """Write a generator's file in one step and return its hash.

    Raises:
        ValueError: a value is not finite; such a generator is never written.
    """
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"refusing to write a generator with non-finite values in {name}")
    told = {
        "format": FORMAT,
        "ladder": asdict(about.ladder),
        "layout": about.layout.to_json(),
        "statistics": about.mode,
        "identity": asdict(about.identity),
        "made": about.made,
    }
    sha256 = content_sha256(tensors, told)
    header = {"about": canonical_json({**told, "content": sha256})}  # one key: their order is not kept
    write_atomic(path, save({name: value.contiguous() for name, value in tensors.items()}, header))
    return sha256


def content_sha256(tensors: dict[str, Tensor], told: dict[str, Any]) -> str:
    """Return the hash over a file's header, without the hash itself, and every tensor."""
    digest = hashlib.sha256(canonical_json(told).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read(path: Path) -> tuple[About, dict[str, Tensor], str]:
    """Return a file's header, its tensors and its hash.

    Raises:
        InputError: missing, truncated, changed, of another format, or not finite; the message names the file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = json.loads(header["about"])
        content, version = told.pop("content"), told["format"]
        if version != FORMAT:
            raise InputError(f"{path}: a generator of format {version}, this version reads {FORMAT}")
        found = content_sha256(tensors, told)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; reinstall the package or train it again") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged or not a generator ({type(error).__name__}: {error})") from None
    if found != content:
        raise InputError(f"{path}: its content has hash {found[:12]}, recorded is {str(content)[:12]}; it was changed")
    for name, value in tensors.items():
        if value.dtype not in (torch.bfloat16, torch.float32) or not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name} holds values that are not finite, or no floats")
    try:
        return _about(told), tensors, found
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: its header cannot be read ({type(error).__name__}: {error})") from None


def _about(told: dict[str, Any]) -> About:
    layout, identity, mode = TokenLayout.from_json(told["layout"]), Identity(**told["identity"]), told["statistics"]
    wrong = [field.name for field in fields(identity) if type(getattr(identity, field.name)) is not field.type]
    if wrong or not 0 <= identity.initial_seed < 2**63:
        raise InputError(f"its header has no usable identity ({', '.join(wrong) or 'initial_seed'})")
    if mode not in ("layer", "element") or not isinstance(told["made"], dict):
        raise InputError("its header has no usable statistics, or does not say how it was made")
    return About(_ladder(told["ladder"]), layout, mode, identity, told["made"])


def _ladder(told: dict[str, Any]) -> Ladder:
    shapes, kernel, affine = (told[key] for key in ("shapes", "kernel", "affine"))
    sizes = [size for shape in shapes for size in shape]
    sound = len(shapes) > 1 and all(len(shape) == 3 for shape in shapes) and type(affine) is bool
    if not sound or not all(type(size) is int and 0 < size < 2**20 for size in (*sizes, kernel)) or kernel % 2 == 0:
        raise InputError("its header has no usable ladder")
    return Ladder(tuple((n, length, channels) for n, length, channels in shapes), kernel, affine)


def check_statistics(statistics: Statistics, layout: TokenLayout) -> None:
    """Raise InputError where statistics are not those of a layout's adapters."""
    own = statistics.mode == "layer"
    centre, scale = (layout.layers, 2 if own else layout.length), (layout.layers, 2 if own else 1)
    if (tuple(statistics.centre.shape), tuple(statistics.scale.shape)) != (centre, scale):
        raise InputError("its statistics do not fit its token layout")
    if not bool((statistics.scale > 0).all()):
        raise InputError("its statistics hold a spread that is not above zero")

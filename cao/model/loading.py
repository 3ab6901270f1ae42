"""A language model loaded: found in the cache, the hub or a folder, and its fast paths held against its own forward."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from huggingface_hub import snapshot_download

from cao.errors import InputError, UnavailableError
from cao.files import check_sums, sha256_file, write_sums
from cao.machine import assets
from cao.machine.compute import choose_compute
from cao.machine.linear import use_fast_linear
from cao.model.agreement import compare_paths
from cao.model.answer_style import measured_style
from cao.model.language_model import LanguageModel
from cao.model.memory import BYTES, Need, check_room, stored_parameters
from cao.model.profiles import GGUF, ModelProfile, check_model, is_place, known, laid_over
from cao.profile_settings import ProfileSettings
from cao.progress import say, timed
from cao.types import DtypeChoice

ABOUT = ["*.json", "*.txt", "*.model", "*.jinja"]
"""Files of a hub's model besides its weights."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Named(Protocol):
    """Settings that name a model, such as ``cao.configuration.Machine`` and a run's configuration."""

    @property
    def model(self) -> str:
        """A known name, a folder, a GGUF file or a hub id."""

    @property
    def model_path(self) -> str | None:
        """A folder that takes the place of a known name's source."""

    @property
    def profile(self) -> ProfileSettings:
        """What is laid over the profile."""

    @property
    def device(self) -> str:
        """Torch device."""

    @property
    def dtype(self) -> DtypeChoice:
        """What it computes in."""

    @property
    def offline(self) -> bool:
        """Whether the network may not be used."""


def convert_gguf(gguf: Path, sha256: str) -> Path:
    """Return the transformers folder (bf16 safetensors) of a GGUF file, converted once into the cache.

    Two processes may ask at once.

    Args:
        gguf: the file.
        sha256: its hash, the cache's key.
    """
    place = assets.cache_dir() / "models" / f"{gguf.stem.lower()}-{sha256[:16]}"

    def build(folder: Path) -> None:
        from cao.model.conversion import convert  # noqa: PLC0415  (once a machine)

        with timed("converting the model, once"):
            convert(gguf, folder)
        write_sums(folder, list(folder.iterdir()))

    folder = assets.build_once(place, build)
    try:
        check_sums(folder)
    except InputError as error:
        say(f"{error}; it is made again")
        shutil.rmtree(folder)
        return assets.build_once(place, build)
    return folder


def _find(profile: ModelProfile, path: str | None, offline: bool) -> tuple[Path, str]:
    """Return the model's folder and the hash that adapters know it by."""
    if path:
        return _folder(path), weights_sha256(_folder(path))
    if profile.dequantised:
        return _converted(assets.smollm2_gguf())
    if profile.source.lower().endswith(GGUF):
        return _converted(Path(profile.source))
    on_hub, source = profile.on_hub, profile.source
    folder = _from_hub(source, offline, [*ABOUT, "*.safetensors"]) if on_hub else _folder(source)
    return folder, weights_sha256(folder)


def described(source: str, offline: bool) -> Path:
    """Return a folder with a model's configuration and tokenizer; of a hub's model its weights are not fetched."""
    if not Path(source).is_absolute():
        return _from_hub(source, offline, ABOUT)
    if source.lower().endswith(GGUF):
        return _converted(Path(source))[0]
    weight_files(_folder(source))
    return Path(source)


def _folder(path: str) -> Path:
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UnavailableError(f"{folder} is no model folder (no config.json); give one with --set model_path=DIR")
    return folder


def _converted(gguf: Path) -> tuple[Path, str]:
    """Return a GGUF file's folder in the cache and its hash: of what was shipped, not of what a library made of it."""
    sha256 = sha256_file(gguf)
    try:
        return convert_gguf(gguf, sha256), sha256
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{gguf}: no model that can be converted here ({reason}); write it as a folder where you can "
            "(from_pretrained with gguf_file, save_pretrained) and give that as --model"
        ) from None


def _from_hub(source: str, offline: bool, patterns: list[str]) -> Path:
    try:
        return Path(snapshot_download(source, allow_patterns=patterns, local_files_only=offline))
    except Exception as error:  # noqa: BLE001  (the hub client raises many types for "cannot be had")
        raise UnavailableError(
            f"{source} cannot be had ({type(error).__name__}); with network access run: hf download "
            f"{source}, or give a folder with --set model_path=DIR"
        ) from None


def weight_files(folder: Path) -> list[Path]:
    """Return a model folder's safetensors files.

    Raises:
        InputError: there are none; other formats are not read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        if pickles:
            raise InputError(
                f"{folder}: {pickles[0]} is a pickle, which can run code when it is read; only safetensors are: load "
                "the model where you trust it and write it with save_pretrained"
            )
        raise InputError(f"{folder}: no safetensors file; other formats are not read")
    return files


def weights_sha256(folder: Path) -> str:
    """Return one hash over a model folder's safetensors files.

    Raises:
        InputError: there are none.
    """
    files = weight_files(folder)
    if len(files) == 1:
        return sha256_file(files[0])
    return hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()


def resolve(
    model: str, settings: ProfileSettings | None = None, *, path: str | None = None, offline: bool = False, of: str = ""
) -> ModelProfile:
    """Return the profile of what ``--model`` was given: a known one, or one inferred; no weights are read.

    Args:
        model: a known name, a folder, a GGUF file or a hub id.
        settings: what is laid over the profile.
        path: a folder that takes the place of a known profile's source.
        offline: never touch the network.
        of: what the model is for, where it is not the only one.

    Raises:
        InputError: it is none of these, or the model there cannot be used.
        UnavailableError: it is not at hand.
    """
    check_model(model, of)
    profile = known(model)
    if profile is None:
        from cao.model.profiles.inferred import infer_profile  # noqa: PLC0415  (transformers; known names need none)

        source = str(Path(model).resolve()) if is_place(model) else model
        profile = infer_profile(source, described(source, offline))
    elif path:
        profile = replace(profile, source=str(Path(path).resolve()), parameters=stored_parameters(Path(path)))
    return laid_over(profile, settings) if settings else profile


def given_sha256(place: str) -> str:
    """Return the hash of a model's weights that lie here: a folder's safetensors files, or a GGUF file."""
    return sha256_file(Path(place)) if place.lower().endswith(GGUF) else weights_sha256(_folder(place))


def check_device(device: str) -> None:
    """Raise an error where a torch device is not one of ours or is not here.

    Raises:
        InputError: not ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        UnavailableError: this machine has no such device.
    """
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (kind == "cuda" and index.isdecimal())):
        raise InputError(f"unknown device {device!r}; known: cpu, cuda, cuda:N, mps")
    here = {"cpu": True, "cuda": torch.cuda.device_count() > int(index or 0), "mps": torch.backends.mps.is_available()}
    if not here[kind]:
        raise UnavailableError(f"no device {device!r} here; run with --device cpu")


def load_model(of: Named) -> LanguageModel:
    """Load the language model that a command's settings name.

    Raises:
        InputError: no model has this name.
        UnavailableError: its weights or the device are not at hand.
    """
    profile = resolve(of.model, of.profile, path=of.model_path, offline=of.offline)
    return load_language_model(profile, path=of.model_path, device=of.device, dtype=of.dtype, offline=of.offline)


def load_language_model(
    profile: ModelProfile,
    *,
    path: str | None = None,
    device: str = "cpu",
    dtype: DtypeChoice = "auto",
    offline: bool = False,
) -> LanguageModel:
    """Load a model profile, frozen.

    Args:
        profile: what to load.
        path: a folder that takes the place of the profile's source.
        device: torch device.
        dtype: what it computes in; ``auto`` is the faster one here.
        offline: never touch the network.

    Raises:
        UnavailableError: it cannot be had here; the message has the command that provides it.
        InputError: the folder holds no readable model, or the device cannot compute in that dtype.
    """
    check_device(device)
    compute = choose_compute(dtype, device)
    folder, sha256 = _find(profile, path, offline)
    size = BYTES[compute.dtype] * stored_parameters(folder)
    check_room([Need("model", profile.name, size)], _free(device))
    from cao.model.reading import read_model  # noqa: PLC0415  (seconds to import)

    model, tokenizer = read_model(folder, compute.dtype, profile)
    model = model.to(device).eval().requires_grad_(False)
    use_fast_linear(model)
    from_hub = not path and profile.on_hub
    source = profile.source if from_hub else str(folder.resolve())
    lm = LanguageModel(profile, model, tokenizer, sha256, device, compute, source)
    lm.paths = compare_paths(lm)
    if not lm.paths.head or not lm.paths.trees or lm.paths.longest:
        say(f"{type(model).__name__}: {_slower(lm)}")
    if profile.measure_style:
        style, why = measured_style(lm)
        lm.profile = replace(profile, answer_style=style, measure_style=False)
        say(f"{profile.name}: answers by {style} ({why}); --set profile.answer_style=text or letter settles it")
    if profile.architecture:
        say(f"{profile.name}: {lm.profile.sentence()}")
    return lm


def _free(device: str) -> int | None:
    """Return the bytes that an accelerator has free, None for the machine's own memory."""
    return torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else None


def _slower(lm: LanguageModel) -> str:
    """Return what is computed by the library's own forward, which is slower."""
    paths, slower = lm.paths, []
    if not paths.trees:
        slower.append("each answer with its prompt anew")
    elif paths.longest:
        slower.append(f"questions longer than {paths.longest} tokens, each answer with its prompt anew")
    if not paths.head:
        slower.append("logits, which are more than a product with the head")
    return f"computed by the library's own forward, slower: {'; '.join(slower)}"

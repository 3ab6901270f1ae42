"""A language model loaded: found in the cache, the hub or a folder, and its fast paths held against its own forward."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError

from cao.configuration import Machine
from cao.errors import InputError, UnavailableError
from cao.files import sha256_file
from cao.machine import assets
from cao.machine.compute import choose_compute
from cao.machine.linear import use_fast_linear
from cao.model.agreement import compare_paths
from cao.model.language_model import LanguageModel
from cao.model.profiles import LORA_TARGETS, ModelProfile, find_profile
from cao.progress import say, timed
from cao.types import DtypeChoice


def convert_gguf(gguf: Path, sha256: str) -> Path:
    """Return the transformers folder (bf16 safetensors) of a GGUF file, converted once into the cache.

    Two processes may ask at once.

    Args:
        gguf: the file.
        sha256: its hash, the cache's key.
    """

    def build(folder: Path) -> None:
        from cao.model.conversion import convert  # noqa: PLC0415  (once a machine)

        with timed("converting the model, once"):
            convert(gguf, folder)

    return assets.build_once(assets.cache_dir() / "models" / f"{gguf.stem.lower()}-{sha256[:16]}", build)


def _find(profile: ModelProfile, path: str | None, offline: bool) -> tuple[Path, str]:
    """Return the model's folder and the hash that adapters know it by."""
    if path:
        folder = Path(path)
        if not (folder / "config.json").is_file():
            raise UnavailableError(f"{folder} is no model folder (no config.json); give one with --set model_path=DIR")
        return folder, weights_sha256(folder)
    if profile.source == "embedded:smollm2":
        gguf = assets.smollm2_gguf()
        sha256 = sha256_file(gguf)  # of what was shipped, not of what one library version made of it
        return convert_gguf(gguf, sha256), sha256
    from huggingface_hub import snapshot_download  # noqa: PLC0415  (a model of the hub alone)

    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
        folder = Path(snapshot_download(profile.source, allow_patterns=patterns, local_files_only=offline))
    except Exception as error:  # noqa: BLE001  (the hub client raises many types for "cannot be had")
        raise UnavailableError(
            f"{profile.source} cannot be had ({type(error).__name__}); with network access run: hf download "
            f"{profile.source}, or give a folder with --set model_path=DIR"
        ) from None
    return folder, weights_sha256(folder)


def weights_sha256(folder: Path) -> str:
    """Return one hash over a model folder's safetensors files.

    Raises:
        InputError: there are none; other formats are not read.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no safetensors file; other formats are not read")
    if len(files) == 1:
        return sha256_file(files[0])
    return hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()


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


def load_model(of: Machine) -> LanguageModel:
    """Load the language model that a command's settings name.

    Raises:
        InputError: no model has this name.
        UnavailableError: its weights or the device are not at hand.
    """
    profile = find_profile(of.model)
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
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging  # noqa: PLC0415  (seconds to import)

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, compute.dtype),
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be loaded ({str(error).splitlines()[0]})") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = model.to(device).eval().requires_grad_(False)
    use_fast_linear(model)
    from_hub = not path and not profile.source.startswith("embedded:")
    source = profile.source if from_hub else str(folder.resolve())
    lm = LanguageModel(profile, model, tokenizer, sha256, device, compute, source)
    _check_targets(folder, lm)
    lm.paths = compare_paths(lm)
    if not lm.paths.head or not lm.paths.trees or lm.paths.longest:
        say(f"{type(model).__name__}: {_slower(lm)}")
    return lm


def _check_targets(folder: Path, lm: LanguageModel) -> None:
    """Raise InputError where no layer can carry LoRA."""
    if lm.lora_shapes():
        return
    weighted = (name for name, part in lm.model.named_modules() if getattr(part, "weight", None) is not None)
    parts = {name.rsplit(".", 1)[-1] for name in weighted}
    raise InputError(
        f"{folder}: {type(lm.model).__name__} has none of the linear layers that carry LoRA "
        f"({', '.join(LORA_TARGETS)}); its layers are {', '.join(sorted(parts))}"
    )


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

"""The language model: loaded once, frozen, and dressed in one LoRA adapter at a time."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cao import assets
from cao.adapters import LoraWeights, initial_lora
from cao.clothes import Clothes, Kind, kind_of, make_clothes
from cao.compute import Compute, choose_compute
from cao.errors import InputError, UnavailableError
from cao.files import sha256_file
from cao.linear import use_fast_linear
from cao.models import LORA_TARGETS, ModelProfile
from cao.progress import told
from cao.types import DtypeChoice


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer and profile.

    Attributes:
        profile: what the name stands for.
        model: the transformers model, evaluation mode, no gradients.
        tokenizer: its tokenizer.
        sha256: hash of the weights' files; adapters carry it.
        device: ``cpu``, ``cuda``, …
        compute: the number format it computes in, and why; None for a model that was made by hand.
    """

    profile: ModelProfile
    model: Any
    tokenizer: Any
    sha256: str
    device: str = "cpu"
    compute: Compute | None = None
    _clothes: dict[Kind, Clothes] = field(default_factory=dict, repr=False)
    _worn: bool = field(default=False, repr=False)

    @property
    def dtype(self) -> str:
        """What it computes in, as configurations name it: ``float32``, ``bfloat16``."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def trunk(self) -> Any:
        """The transformer without its head: token ids to normalised last hidden states (…, d)."""
        return self.model.get_decoder()

    @property
    def head(self) -> Any:
        """The map from hidden states (…, d) to logits (…, V)."""
        return self.model.get_output_embeddings()

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of ``text``."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=special)
        return ids

    def lora_shapes(self) -> dict[str, tuple[int, int]]:
        """Return PEFT module prefix → (out, in) for every matrix that carries LoRA."""
        return {
            f"base_model.model.{name}": (module.out_features, module.in_features)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in LORA_TARGETS
        }

    def fresh_lora(self, seed: int) -> LoraWeights:
        """Return the recorded initialisation for this model (B is zero, so it changes nothing yet)."""
        profile = self.profile
        return initial_lora(self.lora_shapes(), LORA_TARGETS, profile.lora_rank, profile.lora_alpha, seed, self.sha256)

    def mixed_precision(self) -> torch.autocast:
        """Return the context of one training forward: float32 LoRA parameters compute in the model's dtype.

        Enter it for each forward anew: inside one, casts of parameters are kept, and would go stale after a step.
        """
        half = self.model.dtype in (torch.bfloat16, torch.float16)
        dtype = self.model.dtype if half else torch.bfloat16
        return torch.autocast(torch.device(self.device).type, dtype=dtype, enabled=half)

    def not_finite(self) -> str:
        """Return what to say where the model's scores are not finite, and what to do about it."""
        why = "its adapter has diverged; lower the learning rate" if self._worn else "its weights are no good"
        lower = "" if self.dtype == "float32" else f", or {self.dtype} overflows: run with --dtype float32"
        return f"the model's scores are not finite: {why}{lower}"

    @contextmanager
    def adapted(self, weights: LoraWeights | None, *, trainable: bool = False) -> Iterator[dict[str, Tensor]]:
        """Dress the model in an adapter for the length of the block; the base weights are never written.

        Args:
            weights: the adapter, or None for the plain base model.
            trainable: whether its parameters take gradients; they are float32 then, else in the model's dtype.

        Yields:
            The live LoRA parameters by their PEFT names (empty for None).

        Raises:
            InputError: the adapter belongs to another base model or does not fit this one's shapes.
        """
        if weights is None:
            yield {}
            return
        if self._worn:
            raise RuntimeError("adapters do not nest: leave the first block before entering a second")
        self.check_fit(weights)
        kind = kind_of(self.model, weights)
        if kind not in self._clothes:
            self._clothes[kind] = make_clothes(self.model, weights)
        clothes = self._clothes[kind]
        live = clothes.parameters
        for name, parameter in live.items():
            # float32 beside a bf16 model makes a forward five times as slow on a CPU
            parameter.data = weights.tensors[name].to(
                self.device, torch.float32 if trainable else self.model.dtype, copy=True
            )
            parameter.grad = None
            parameter.requires_grad_(trainable)
        clothes.put_on()
        self._worn = True
        try:
            yield {**live}
        finally:
            clothes.take_off()
            self._worn = False

    def check_fit(self, weights: LoraWeights) -> None:
        """Raise InputError where an adapter belongs to another base model or has other shapes."""
        if weights.base_sha256 and weights.base_sha256 != self.sha256:
            raise InputError(
                f"the adapter was made for base model {weights.base_sha256[:12]}, this one is {self.sha256[:12]}"
            )
        shapes = self.lora_shapes()
        modules = {m for m in shapes if m.rsplit(".", 1)[-1] in weights.targets}
        if set(weights.modules()) != modules:
            raise InputError(f"the adapter's modules are not those of {self.profile.name}")
        for module in modules:
            out_features, in_features = shapes[module]
            a, b = weights.tensors[f"{module}.lora_A.weight"], weights.tensors[f"{module}.lora_B.weight"]
            if tuple(a.shape) != (weights.rank, in_features) or tuple(b.shape) != (
                out_features,
                weights.rank,
            ):
                raise InputError(f"the adapter's {module} does not fit {self.profile.name}")


def convert_gguf(gguf: Path, sha256: str) -> Path:
    """Return the transformers folder (bf16 safetensors) of a GGUF file, converted once into the cache.

    Two processes may ask at once.

    Args:
        gguf: the file.
        sha256: its hash, the cache's key.
    """

    def build(folder: Path) -> None:
        from cao.conversion import convert  # noqa: PLC0415  (seconds to import)

        with told("converting the model, once"):
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
    from huggingface_hub import snapshot_download  # noqa: PLC0415

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
            dtype=compute.torch_dtype,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be loaded ({str(error).splitlines()[0]})") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = model.to(device).eval().requires_grad_(False)
    use_fast_linear(model)
    return LanguageModel(profile, model, tokenizer, sha256, device, compute)

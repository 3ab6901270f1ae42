"""Adapters as people have them, put on the deployed model: what PEFT can load, this project can build on.

What only adds low-rank matrices (rsLoRA, patterns of ranks and alphas, some layers only, PiSSA and OLoRA, …) becomes a
plain adapter of the same arithmetic, so that a strategy can train or mix it. What changes the model otherwise (DoRA,
trained biases or heads, copied layers, …) PEFT merges into the model, which is another model from then on.
"""

import hashlib
import re
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cao.errors import InputError
from cao.files import sha256_file
from cao.machine.linear import use_fast_linear
from cao.model.adapters import LoraWeights, NotPlainError, load_adapter
from cao.model.agreement import close, compare_paths
from cao.model.language_model import LanguageModel
from cao.peft_folder import SOFT_PROMPT
from cao.types import CONFIG_FILE, WEIGHTS_FILE

BASE_KNOWN = ("pissa", "olora")
"""Initialisations that take their first B·A out of the base weights, and find it from these weights alone."""
MERGED = (
    "use_dora",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "target_parameters",
    "lora_bias",
)
"""Keys of PEFT's configuration by which an adapter is more than added matrices."""


def attach_adapter(lm: LanguageModel, folder: Path) -> LoraWeights | None:
    """Attach the adapter that a deployed model carries.

    Args:
        lm: the base model, without an adapter; an adapter that is more than added matrices is merged into it.
        folder: in PEFT's format, safetensors only.

    Returns:
        The adapter as a plain one, or None where it was merged; ``lm.sha256`` is another then.

    Raises:
        InputError: damaged, made for another model, or of a kind that PEFT cannot put on here.
    """
    try:
        weights = load_adapter(folder, lm.sha256)
        if weights.dora:
            raise NotPlainError(f"{folder}: DoRA is merged")
        lm.check_fit(weights)
        return replace(weights, base_sha256=lm.sha256)
    except NotPlainError:
        pass
    config, tensors = _read(folder)
    linear = {name: part.weight for name, part in lm.model.named_modules() if isinstance(part, nn.Linear)}
    before = {name: weight.detach().clone() for name, weight in linear.items()} if _initial(config) else {}
    shapes = lm.lora_shapes()
    wrapped, layers = _wrap(lm, folder, config)
    try:
        added = not any(getattr(config, key, None) for key in MERGED) and config.bias == "none"
        if not added or not set(layers) <= set(shapes):
            _merge(lm, folder, wrapped, tensors)
            return None
        first = {name: _product(layer) for name, layer in layers.items()} if before else {}
        _fill(folder, wrapped, tensors)
        return _plain(lm, shapes, config, {name: _product(layer) for name, layer in layers.items()}, first)
    finally:
        wrapped.unload()
        for name, weight in before.items():
            linear[name].data.copy_(weight)


def _initial(config: LoraConfig) -> str:
    """Return the initialisation that changed the base weights, or nothing."""
    how = str(config.init_lora_weights)
    return how if how.startswith(BASE_KNOWN) else ""


def _read(folder: Path) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return PEFT's configuration of an adapter, and its tensors without the name that some files put into theirs."""
    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = load_file(folder / WEIGHTS_FILE)
    except FileNotFoundError:
        raise InputError(f"{folder}: no {WEIGHTS_FILE}; only safetensors are read") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS_FILE}: damaged or not safetensors ({error})") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / CONFIG_FILE}: not a configuration that PEFT reads ({_line(error)})") from None
    if config.peft_type == SOFT_PROMPT:
        raise InputError(f"{folder}: holds a soft prompt, and what is deployed carries LoRA; TTL makes soft prompts")
    if not isinstance(config, LoraConfig):
        raise InputError(f"{folder / CONFIG_FILE}: {config.peft_type} is no LoRA; merge it into the model first")
    how = config.init_lora_weights
    if isinstance(how, str) and not how.startswith((*BASE_KNOWN, "gaussian", "eva", "orthogonal")):
        raise InputError(
            f"{folder}: made with init_lora_weights={how!r}, whose base weights the adapter does not hold; save it as "
            "plain LoRA (save_pretrained with path_initial_model_for_weight_conversion) or merge it into the model"
        )
    bad = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor.float()).all())), None)
    if bad:
        raise InputError(f"{folder / WEIGHTS_FILE}: {bad} holds values that are not finite")
    config.init_lora_weights = how if _initial(config) else True  # the rest is overwritten
    named = {
        re.sub(r"(\.lora_(?:embedding_)?[AB])\.\w+\.weight$", r"\1.weight", name): t for name, t in tensors.items()
    }
    return config, named


def _wrap(lm: LanguageModel, folder: Path, config: LoraConfig) -> tuple[PeftModel, dict[str, LoraLayer]]:
    """Return PEFT's model around the language model, and its LoRA layers by their modules' PEFT names."""
    config.inference_mode = True
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            torch.manual_seed(0)
            warnings.simplefilter("ignore")
            wrapped: PeftModel = get_peft_model(lm.model, config)
    except Exception as error:  # noqa: BLE001  (PEFT raises whatever it meets in a configuration)
        raise InputError(
            f"{folder}: does not fit {lm.profile.name} ({_line(error)}); give an adapter made for this model, or its "
            "own base model as --model"
        ) from None
    return wrapped, {name: part for name, part in wrapped.named_modules() if isinstance(part, LoraLayer)}


def _fill(folder: Path, wrapped: PeftModel, tensors: dict[str, Tensor]) -> None:
    try:
        loaded = set_peft_model_state_dict(wrapped, tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{folder / WEIGHTS_FILE}: does not fit its configuration ({_line(error)})") from None
    lacking = [name for name in loaded.missing_keys if ".lora_" in name]
    if loaded.unexpected_keys or lacking:
        name = [*loaded.unexpected_keys, *lacking][0]
        raise InputError(f"{folder / WEIGHTS_FILE}: {name} is {'missing' if lacking else 'of no layer of this model'}")


def _product(layer: LoraLayer) -> tuple[Tensor, Tensor]:
    """Return A (r, in) and B (out, r) of a layer, float32, with the scale in B."""
    (name,) = layer.active_adapters
    up = layer.lora_B[name].weight.detach().float() * layer.scaling[name]
    return layer.lora_A[name].weight.detach().float().cpu().clone(), up.cpu()


def _plain(
    lm: LanguageModel,
    shapes: dict[str, tuple[int, int]],
    config: LoraConfig,
    products: dict[str, tuple[Tensor, Tensor]],
    first: dict[str, tuple[Tensor, Tensor]],
) -> LoraWeights:
    """Return matrices as one plain adapter: the largest rank everywhere, zero where a module has less or nothing.

    Args:
        lm: for its hash.
        shapes: of its layers that carry LoRA.
        config: PEFT's, to tell how it was made.
        products: module → A, B.
        first: module → A, B that were taken out of its base weights before the training.
    """
    pairs = {
        name: (torch.cat([a, first[name][0]]), torch.cat([b, -first[name][1]], 1)) if first else (a, b)
        for name, (a, b) in products.items()
    }
    rank = max(len(a) for a, _ in pairs.values())
    rank += rank % 2  # mixing needs two halves
    targets = tuple(sorted({name.rsplit(".", 1)[-1] for name in pairs}))
    tensors: dict[str, Tensor] = {}
    for name, (out, width) in shapes.items():
        if name.rsplit(".", 1)[-1] in targets:
            a, b = pairs.get(name, (torch.zeros(0, width), torch.zeros(out, 0)))
            tensors[f"{name}.lora_A.weight"] = nn.functional.pad(a, (0, 0, 0, rank - len(a)))
            tensors[f"{name}.lora_B.weight"] = nn.functional.pad(b, (0, rank - b.shape[1]))
    made = {"made_by": f"PEFT, init_lora_weights={config.init_lora_weights}, use_rslora={config.use_rslora}"}
    return LoraWeights(rank, rank, targets, tensors, lm.sha256, made)


def _merge(lm: LanguageModel, folder: Path, wrapped: PeftModel, tensors: dict[str, Tensor]) -> None:
    """Merge what PEFT has put on into the model."""
    _fill(folder, wrapped, tensors)
    ids = torch.arange(8, device=lm.device)[None]
    try:
        with torch.no_grad():
            before = wrapped.eval()(input_ids=ids, use_cache=False).logits
            lm.exchange(wrapped.merge_and_unload(safe_merge=True).eval().requires_grad_(False))
            after = lm.model(input_ids=ids, use_cache=False).logits
    except Exception as error:  # noqa: BLE001  (PEFT raises whatever it meets)
        raise InputError(f"{folder}: PEFT cannot merge it into {lm.profile.name} ({_line(error)})") from None
    if not close(before, after):  # such as an embedding that is also the head
        raise InputError(
            f"{folder}: merged into {lm.profile.name} it is not the same; merge it into a model folder first"
        )
    use_fast_linear(lm.model)
    lm.paths = compare_paths(lm)
    files = "".join(sha256_file(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE))
    lm.sha256 = hashlib.sha256(f"{lm.sha256}{files}".encode()).hexdigest()


def _line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)

"""LoRA layers that are attached to a model and detached again.

PEFT builds them once for each kind of adapter, not at each use.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cao.errors import InputError
from cao.model.adapters import MAGNITUDE, LoraWeights
from cao.peft_folder import PREFIX

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

Kind = tuple[int, int, int, tuple[str, ...], bool]
"""What decides whether two adapters share their layers: model, rank, alpha, targets, DoRA."""


@dataclass(frozen=True)
class LoraLayers:
    """The LoRA layers of one kind of adapter, made for one model.

    Attributes:
        layers: parent module, attribute and PEFT's layer around the module that stands there.
        parameters: the LoRA parameters by their names in an adapter's file.
    """

    layers: list[tuple[nn.Module, str, "LoraLayer"]]
    parameters: dict[str, nn.Parameter]

    def attach(self) -> None:
        """Have the model compute with these layers."""
        for parent, name, layer in self.layers:
            setattr(parent, name, layer)

    def detach(self) -> None:
        """Have the model compute without them."""
        for parent, name, layer in self.layers:
            setattr(parent, name, layer.base_layer)


def kind_of(model: nn.Module, weights: LoraWeights) -> Kind:
    """Return the kind of layers that an adapter needs on a model."""
    return id(model), weights.rank, weights.alpha, tuple(weights.targets), weights.dora


def make_lora_layers(model: nn.Module, weights: LoraWeights) -> LoraLayers:
    """Return LoRA layers for an adapter; the model is left without them and its weights are never written.

    Args:
        model: a transformers model.
        weights: for rank, alpha and the names of the modules.

    Raises:
        InputError: some of its modules can carry none.
    """
    import peft.tuners.lora  # noqa: PLC0415  (two seconds; a reference or a graph is shown without it)

    names = [name.removeprefix(PREFIX) for name in weights.modules()]  # a last name may be an expert's, too
    config = peft.LoraConfig(
        r=weights.rank,
        lora_alpha=weights.alpha,
        target_modules=names,
        lora_dropout=0.0,
        bias="none",
        use_dora=weights.dora,
    )
    with torch.random.fork_rng(devices=[]):
        around: peft.PeftModel = peft.get_peft_model(model, config)
    modules, wanted = dict(around.named_modules()), set(names)
    layers = []
    for path, module in modules.items():
        if isinstance(module, peft.tuners.lora.LoraLayer) and path.removeprefix(PREFIX) in wanted:  # no fused experts
            parent, _, name = path.rpartition(".")
            module.cast_input_dtype_enabled = False  # see LanguageModel.mixed_precision
            layers.append((modules[parent], name, module))
    named = around.named_parameters()
    filed = ((name.replace(".default.", "."), value) for name, value in named if ".lora_" in name)
    parameters = {name.replace(f"{MAGNITUDE}.weight", MAGNITUDE): value for name, value in filed}
    parameters = {name: value for name, value in parameters.items() if name in weights.tensors}
    around.unload()
    if len(layers) < len(names):
        raise InputError(
            f"PEFT puts no LoRA layer on {len(names) - len(layers)} of the {len(names)} modules of an adapter"
        )
    return LoraLayers(layers, parameters)


@torch.no_grad()
def magnitudes(weight: Tensor, down: Tensor, up: Tensor, scaling: float) -> Tensor:
    """Return the magnitudes under which DoRA computes as plain LoRA does: the norms of W + ΔW by output row.

    DoRA is m·(W + ΔW)/‖W + ΔW‖. The scoring path that writes the layers out calls PEFT's own layer for it.

    Args:
        weight: W, (out, in).
        down: A, (r, in), float32.
        up: B, (out, r), float32.
        scaling: α/r.

    Returns:
        (out,) float32.

    Source: Liu et al. 2024 (DoRA), Eq. 5.
    """
    assert up.shape[1] == down.shape[0], (up.shape, down.shape)
    norms: Tensor = torch.linalg.vector_norm(weight.float().cpu() + scaling * (up.cpu() @ down.cpu()), dim=1)
    return norms

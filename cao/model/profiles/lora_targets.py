"""Which linear layers of a model carry LoRA, by the layers that are there."""

from collections.abc import Collection

from torch import nn
from transformers import PreTrainedModel

from cao.model.profiles import LORA_TARGETS
from cao.peft_folder import PREFIX

ENTRIES = (
    *("q_proj", "qkv_proj", "query_key_value", "Wqkv", "c_attn", "att_proj", "kv_b_proj"),
    *("gate_proj", "up_proj", "gate_up_proj", "fc1", "c_fc", "fc_in", "dense_h_to_4h", "w1"),
)
"""First layers of an attention or an MLP, as architectures name them; what stands beside one belongs to it."""
ROUTERS = ("gate", "router")
"""Small layers beside experts, which choose among them."""
EXPERTS = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
"""What experts' layers were called before a library kept them as one tensor: PEFT takes the names for that tensor's."""


def find_targets(model: nn.Module) -> tuple[str, ...]:
    """Return the last names of the linear layers of every attention and MLP, empty where there are none.

    Experts that a library keeps as one tensor are no linear layers and carry no LoRA, nor do layers beside them that
    PEFT would take for them; routers are left alone.

    Args:
        model: a transformers model; it may lie on the meta device.
    """
    found: set[str] = set()
    reader = _reader(model)
    taken = {*ROUTERS, *(EXPERTS if any(map(_fused, reader.modules())) else ())}
    for part in reader.modules():
        linear = [name for name, child in part.named_children() if isinstance(child, nn.Linear)]
        if any(name in ENTRIES for name in linear):
            found |= {name for name in linear if name not in taken}
    known = [name for name in LORA_TARGETS if name in found]
    return (*known, *sorted(found - set(known)))


def lora_shapes(model: nn.Module, targets: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return PEFT module prefix → (out, in) for every matrix that carries LoRA, all in what reads text.

    Args:
        model: a transformers model; it may lie on the meta device.
        targets: last names of the linear layers.
    """
    reads = set(_reader(model).modules())
    return {
        f"{PREFIX}{name}": (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if module in reads and isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in targets
    }


def _fused(part: nn.Module) -> bool:
    """Return whether a module holds its experts as one tensor, (experts, …, …)."""
    return "Experts" in type(part).__name__ and any(each.dim() == 3 for each in part.parameters(recurse=False))


def _reader(model: nn.Module) -> nn.Module:
    """Return the part of a model that reads text: beside it stand towers for pictures and sounds."""
    return model.get_decoder() if isinstance(model, PreTrainedModel) else model

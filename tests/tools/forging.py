"""Files of trained parts, changed as by damage or by a forger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cao.sealed import content_sha256

Edit = Callable[[dict[str, Tensor], dict[str, Any]], object]


def rewrite(file: Path, edit: Edit, seal: tuple[str, str] | None = None) -> None:
    """Change tensors or header in place; a seal, its key and its form, also renews the hash, as a forger would."""
    tensors = load_file(file)
    with safe_open(file, framework="pt") as stream:
        told = json.loads(stream.metadata()["about"])
    edit(tensors, told)
    if seal is not None:
        key, form = seal
        del told[key]
        told[key] = content_sha256(told, tensors, form)
    save_file(tensors, file, metadata={"about": json.dumps(told)})

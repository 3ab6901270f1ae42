"""Reference files, forged ones too, and files that references are made from."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from cao.files import canonical_json


def write_lines(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def forge(path: Path, tensors: dict[str, Tensor]) -> Path:
    """Write a reference file whose recorded hash is right, whatever it holds."""
    parts = [
        [
            name,
            str(it.dtype),
            list(it.shape),
            hashlib.sha256(it.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest(),
        ]
        for name, it in sorted(tensors.items())
    ]
    content = hashlib.sha256(canonical_json(parts).encode()).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, {"encoder_sha256": "e" * 64, "content_sha256": content, "made_from": "a forge"}))
    return path


UNIT = torch.eye(9)

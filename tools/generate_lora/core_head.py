"""The core head: a small matrix for each module, between an A and a B that all tasks share.

A module's change is ΔW = (α/r) B (I + C) A. A and B are trained as the shared part; the decoder writes C, r × r
numbers, from a task's prompts. With C = 0 it is the shared adapter. The product (I + C) A is an A again, so that what
comes out is a plain LoRA adapter of rank r.

Axis letters: B tasks, m modules of a layer, D_l scalars of a layer.

Source: this project's; Zhyper (2025) and LoRA-XS (2024) write a small core between fixed matrices.
"""

import torch
from torch import Tensor, nn

from tools.generate_lora.tokens import TokenLayout

START = 1.0
"""Gain of every module's core before training; a tenth of it leaves the prompts without any effect (lab log)."""


def core_shape(layout: TokenLayout) -> tuple[int, int, int]:
    """Return what the decoder has to write for a layout: (layers, m·r, r)."""
    return layout.layers, len(layout.modules) * layout.rank, layout.rank


class CoreHead(nn.Module):
    """Places cores between the halves of a shared adapter.

    Attributes:
        layout: of the adapter.
        gain: (layers, m), what each module's core is multiplied by; trained.
    """

    def __init__(self, layout: TokenLayout) -> None:
        """Begin with the decoder's own cores."""
        super().__init__()
        self.layout = layout
        self.gain = nn.Parameter(torch.full((layout.layers, len(layout.modules)), START))

    def forward(self, images: Tensor, shared: Tensor) -> Tensor:
        """Return the adapters of cores.

        Args:
            images: (B, layers, m·r, r), what the decoder writes.
            shared: (layers, D_l) adapter, A and B of every module.

        Returns:
            (B, layers, D_l).
        """
        layout, rank = self.layout, self.layout.rank
        count = len(images)
        cores = images.view(count, layout.layers, len(layout.modules), rank, rank) * self.gain[:, :, None, None]
        parts, start = [], 0
        for number, (_, out, inner) in enumerate(layout.modules):
            middle, end = start + rank * inner, start + rank * (inner + out)
            down = shared[:, start:middle].reshape(layout.layers, rank, inner)
            parts.append((down + cores[:, :, number] @ down).flatten(2))
            parts.append(shared[None, :, middle:end].expand(count, -1, -1))
            start = end
        return torch.cat(parts, dim=2)

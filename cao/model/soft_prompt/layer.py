"""Virtual tokens in a model: ids behind its vocabulary, whose embeddings are a soft prompt's rows.

With ids, virtual tokens are tokens like any others to whatever packs, shares, caches and masks texts: a soft prompt is
a beginning that all texts share.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cao.model.soft_prompt.weights import EMBEDDINGS, SoftPrompt


class VirtualEmbedding(nn.Module):
    """A model's input embedding, with virtual tokens behind its own."""

    def __init__(self, plain: nn.Module, rows: nn.Parameter) -> None:
        """Put rows behind an embedding.

        Args:
            plain: (…) ids to (…, d).
            rows: (n, d).
        """
        super().__init__()
        self.plain = plain
        self._rows = [rows]  # no parameter of the model: its dtype and its hash are those of its own weights

    @property
    def weight(self) -> Tensor:
        """The model's own embeddings, (V, d)."""
        weight = self.plain.weight
        assert isinstance(weight, Tensor), type(self.plain)
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings of ids, (…, d) for (…): V + i is virtual token i."""
        behind = ids - len(self.weight)
        virtual = behind >= 0
        own: Tensor = self.plain(ids.masked_fill(virtual, 0))
        rows = self._rows[0][behind.clamp(min=0)].to(own.dtype)
        return torch.where(virtual.unsqueeze(-1), rows, own)


@dataclass(frozen=True)
class SoftPromptLayer:
    """The embedding of a model under a soft prompt, attached and detached as LoRA layers are.

    Attributes:
        places: parent module and attribute of the model's input embedding.
        embedding: what stands there while the soft prompt is on.
        parameters: the soft prompt by its name in a file.
    """

    places: list[tuple[nn.Module, str]]
    embedding: VirtualEmbedding
    parameters: dict[str, nn.Parameter]

    def attach(self) -> None:
        """Have the model know the virtual tokens."""
        for parent, name in self.places:
            setattr(parent, name, self.embedding)

    def detach(self) -> None:
        """Have the model know its own tokens alone."""
        for parent, name in self.places:
            setattr(parent, name, self.embedding.plain)


def make_soft_prompt_layer(model: nn.Module, embedding: nn.Module, weights: SoftPrompt) -> SoftPromptLayer:
    """Return the layer of a soft prompt; the model is left without it and its weights are never written.

    Args:
        model: a transformers model.
        embedding: its input embedding.
        weights: for the shape.
    """
    parents = [(part, name) for part in model.modules() for name, child in part.named_children() if child is embedding]
    parameter = nn.Parameter(torch.empty_like(weights.tensors[EMBEDDINGS]))
    return SoftPromptLayer(parents, VirtualEmbedding(embedding, parameter), {EMBEDDINGS: parameter})

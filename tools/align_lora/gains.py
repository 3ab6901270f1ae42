"""The gain head of the Fusion VAE: two numbers for each module instead of a correction to each weight.

The first moves a module from the generated adapter towards the shared one, which the generator makes without prompts;
the second makes the module's change stronger or weaker. So few numbers can be learnt through the frozen model from some
hundred tasks, where a correction to each of a million weights cannot.

Axis letters: L layers, m modules of a layer, D_l scalars of a layer, v width of the condition.

Source: CAO-LLM §2.3, F (conditional VAE, task vectors, fusion of several adapters); the gains are this project's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cao.errors import InputError
from tools.align_lora.fusion_vae import LOG_VARIANCE_LIMIT
from tools.generate_lora.tokens import TokenLayout

REACH = 1.0
"""Both numbers lie within ± this: one whole step to the shared adapter, or twice the change."""


@dataclass(frozen=True)
class GainShape:
    """The sizes of a gain VAE.

    Attributes:
        layers: L.
        modules: m.
        vector: v, width of the condition: the task vector and the base model's own state behind each other.
        hidden: width of the layers between.
        latent: width of z.
    """

    layers: int
    modules: int
    vector: int
    hidden: int
    latent: int

    def __post_init__(self) -> None:
        sizes = (self.layers, self.modules, self.vector, self.hidden, self.latent)
        if not all(isinstance(size, int) and not isinstance(size, bool) and 0 < size < 2**20 for size in sizes):
            raise InputError(f"not the sizes of a gain VAE: {self}")


class GainVAE(nn.Module):
    """From what an adapter is and does to two numbers for each of its modules.

    Source: CAO-LLM F.2 (two heads, z = μ + σ·noise, the decoder reads z and the projected condition).
    """

    def __init__(self, shape: GainShape) -> None:
        """Draw the initial weights from torch's global generator; the last layer is zero: nothing changes at first."""
        super().__init__()
        self.shape = shape
        self.project = nn.Linear(shape.vector, shape.hidden)
        self.read = nn.Linear(2 * shape.layers * shape.modules + shape.hidden, shape.hidden)
        self.mean = nn.Linear(shape.hidden, shape.latent)
        self.log_variance = nn.Linear(shape.hidden, shape.latent)
        self.widen = nn.Linear(shape.latent + shape.hidden, shape.hidden)
        self.write = nn.Linear(shape.hidden, 2 * shape.layers * shape.modules)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, features: Tensor, vector: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two numbers and q(z | adapter, condition).

        Args:
            features: (L, m, 2) of ``features_of``.
            vector: (v,) standardised condition.
            noise: (latent,) standard normal draws; None for z = μ, as at inference.

        Returns:
            (L, m, 2) within ± ``REACH``, mean (latent,), log-variance (latent,).
        """
        projected = nn.functional.gelu(self.project(vector))
        seen = nn.functional.gelu(self.read(torch.cat([features.flatten(), projected])))
        mean = self.mean(seen)
        log_variance = self.log_variance(seen).clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        z = mean if noise is None else mean + (log_variance / 2).exp() * noise
        wide = nn.functional.gelu(self.widen(torch.cat([z, projected])))
        numbers = REACH * torch.tanh(self.write(wide))
        return numbers.view(self.shape.layers, self.shape.modules, 2), mean, log_variance


def features_of(adapter: Tensor, shared: Tensor, layout: TokenLayout) -> Tensor:
    """Return what a gain VAE reads of an adapter: how far each module is from the shared one, and how large it is.

    Args:
        adapter: (layers, D_l), A and B of every module.
        shared: (layers, D_l), the one that is made without prompts.
        layout: their order.

    Returns:
        (L, m, 2): log(1 + |X − S| / |S|) and log(1 + |X|) of a module's scalars X and S.
    """
    found = []
    for place in slices(layout):
        mine, theirs = adapter[:, place], shared[:, place]
        size = theirs.norm(dim=1).clamp(min=1e-12)
        found.append(torch.stack([((mine - theirs).norm(dim=1) / size).log1p(), mine.norm(dim=1).log1p()], dim=1))
    return torch.stack(found, dim=1)


def moved(adapter: Tensor, shared: Tensor, numbers: Tensor, layout: TokenLayout) -> Tensor:
    """Return the adapter with every module moved towards the shared one and its change scaled.

    Args:
        adapter: (layers, D_l), A and B of every module.
        shared: (layers, D_l).
        numbers: (L, m, 2): t and s. A module's halves become X + t·(S − X), then A alone is multiplied by 1 + s, so
            that ΔW is.
        layout: their order.
    """
    parts = []
    for number, ((_, _, inner), place) in enumerate(zip(layout.modules, slices(layout), strict=True)):
        towards, stronger = numbers[:, number, 0, None], numbers[:, number, 1, None]
        between = adapter[:, place] + towards * (shared[:, place] - adapter[:, place])
        first = layout.rank * inner
        parts += [(1 + stronger) * between[:, :first], between[:, first:]]
    return torch.cat(parts, dim=1)


def slices(layout: TokenLayout) -> list[slice]:
    """Return where each module's scalars, A and then B, lie in a layer's."""
    found, start = [], 0
    for _, out, inner in layout.modules:
        end = start + layout.rank * (inner + out)
        found.append(slice(start, end))
        start = end
    return found

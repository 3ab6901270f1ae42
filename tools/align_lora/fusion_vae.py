"""The Fusion VAE: a correction to generated LoRA weights, conditioned on a task vector.

32 positions times 4^5 is 32,768 weights, while an adapter has millions. So the flat adapter is cut into chunks of
that length, a learned code tells a chunk where it lies, and one encoder and decoder serve them all: O(D). What is
decoded is a *correction* in units of the layer's scale; the decoder's last layer starts at zero, so that an
untrained VAE changes nothing.

Axis letters: n chunks, c weights a chunk, d width of the task vector, D adapter length.

Source: CAO-LLM §2.3, F.2; chunks and correction are this project's reading.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from cao.errors import InputError

POSITIONS = 32
STRIDE = 4
KL_WEIGHT = 0.005
"""λ at the end of training. Source: CAO-LLM F.2."""
LOG_VARIANCE_LIMIT = 10.0
"""The log-variance is held within ± this, so that no exponential overflows."""


@dataclass(frozen=True)
class FusionShape:
    """The sizes of a Fusion VAE.

    Attributes:
        widths: channels of the encoder's convolutions; the decoder mirrors them.
        latent: width of z.
        vector: d, width of the task vector.
        projected: width that the task vector is projected to.
        chunks: n, chunks of the adapter.
        code: width of a chunk's code.
    """

    widths: tuple[int, ...]
    latent: int
    vector: int
    projected: int
    chunks: int
    code: int

    def __post_init__(self) -> None:
        sizes = (*self.widths, self.latent, self.vector, self.projected, self.chunks, self.code)
        whole = all(isinstance(size, int) and not isinstance(size, bool) and 0 < size < 2**20 for size in sizes)
        if not whole or not 0 < len(self.widths) <= 8:
            raise InputError(f"not the sizes of a Fusion VAE: {self}")

    @property
    def chunk(self) -> int:
        """Weights of a chunk: 32,768 for the paper's five convolutions."""
        chunk: int = POSITIONS * STRIDE ** len(self.widths)
        return chunk


def chunk_count(total: int, chunk: int) -> int:
    """Return how many chunks an adapter of ``total`` weights takes."""
    return math.ceil(total / chunk)


def cut_chunks(flat: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Cut a flat adapter into chunks, the last one filled up with zeros.

    Args:
        flat: any shape of D weights in all, read in order.
        chunk: c.

    Returns:
        (n, c) in ``flat``'s dtype, and (n, c) bool, False on the padding.
    """
    line = flat.reshape(-1)
    count = chunk_count(len(line), chunk)
    padded = nn.functional.pad(line, (0, count * chunk - len(line)))
    mask = torch.arange(count * chunk, device=flat.device) < len(line)
    return padded.reshape(count, chunk), mask.reshape(count, chunk)


def take_chunks(flat: Tensor, which: Tensor, chunk: int) -> Tensor:
    """Return some of ``cut_chunks``'s chunks without touching the others.

    Args:
        flat: any shape of D weights in all, read in order.
        which: (b,) int64, the chunks' places.
        chunk: c.

    Returns:
        (b, c) in ``flat``'s dtype, padding zero.
    """
    line = flat.reshape(-1)
    rows = [line[place * chunk : (place + 1) * chunk] for place in which.tolist()]
    return torch.stack([nn.functional.pad(row, (0, chunk - len(row))) for row in rows])


def join_chunks(chunks: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the flat adapter that ``cut_chunks`` cut; padding is dropped.

    Args:
        chunks: (n, c).
        shape: the adapter's shape, of D weights in all.
    """
    total = math.prod(shape)
    assert len(chunks) == chunk_count(total, chunks.shape[1]), (chunks.shape, shape)
    return chunks.reshape(-1)[:total].reshape(shape)


class FusionVAE(nn.Module):
    """Encoder, two heads and a mirrored decoder over chunks of an adapter.

    Source: CAO-LLM F.2.
    """

    def __init__(self, shape: FusionShape) -> None:
        """Draw the initial weights from torch's global generator; the decoder's last layer is zero."""
        super().__init__()
        self.shape = shape
        widths = (1, *shape.widths)
        steps = list(pairwise(widths))
        encoder: list[nn.Module] = []
        for inner, outer in steps:
            encoder += [nn.Conv1d(inner, outer, STRIDE, STRIDE), nn.GELU()]
        decoder: list[nn.Module] = []
        for inner, outer in reversed(steps):
            decoder += [nn.GELU(), nn.ConvTranspose1d(outer, inner, STRIDE, STRIDE)]
        features = shape.widths[-1] * POSITIONS
        self.encoder = nn.Sequential(*encoder, nn.AdaptiveAvgPool1d(POSITIONS), nn.Flatten())
        self.project = nn.Linear(shape.vector, shape.projected)
        self.codes = nn.Parameter(torch.randn(shape.chunks, shape.code))
        self.mean = nn.Linear(features + shape.projected + shape.code, shape.latent)
        self.log_variance = nn.Linear(features + shape.projected + shape.code, shape.latent)
        self.widen = nn.Linear(shape.latent + shape.projected + shape.code, features)
        self.decoder = nn.Sequential(*decoder)
        last = self.decoder[-1]
        assert isinstance(last, nn.ConvTranspose1d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def _condition(self, vector: Tensor, which: Tensor) -> Tensor:
        """Return [proj(v); chunk code], (b, projected + code)."""
        assert vector.shape == (self.shape.vector,), (vector.shape, self.shape.vector)
        return torch.cat([self.project(vector).expand(len(which), -1), self.codes[which]], dim=1)

    def encode(self, chunks: Tensor, which: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | weights, v).

        Args:
            chunks: (b, c) standardised weights, padding zero.
            which: (b,) int64, each chunk's place in the adapter.
            vector: (d,) standardised task vector.

        Returns:
            Two tensors (b, latent).

        Source: CAO-LLM F.2.
        """
        assert chunks.shape == (len(which), self.shape.chunk), (chunks.shape, which.shape, self.shape.chunk)
        features = torch.cat([self.encoder(chunks.unsqueeze(1)), self._condition(vector, which)], dim=1)
        return self.mean(features), self.log_variance(features).clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def decode(self, z: Tensor, which: Tensor, vector: Tensor) -> Tensor:
        """Return the correction, (b, c), in units of the layer's scale.

        Args:
            z: (b, latent).
            which: (b,) int64, each chunk's place in the adapter.
            vector: (d,) standardised task vector.

        Source: CAO-LLM F.2.
        """
        wide = self.widen(torch.cat([z, self._condition(vector, which)], dim=1))
        correction: Tensor = self.decoder(wide.reshape(len(which), -1, POSITIONS)).squeeze(1)
        return correction

    def forward(
        self, chunks: Tensor, which: Tensor, vector: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the correction and q(z | weights, v).

        Args:
            chunks: (b, c) standardised weights, padding zero.
            which: (b,) int64, each chunk's place in the adapter.
            vector: (d,) standardised task vector.
            noise: (b, latent) standard normal draws, z = μ + σ·noise; None for z = μ, as at inference.

        Returns:
            Correction (b, c), mean (b, latent), log-variance (b, latent).

        Source: CAO-LLM F.2.
        """
        mean, log_variance = self.encode(chunks, which, vector)
        z = mean if noise is None else mean + (log_variance / 2).exp() * noise
        return self.decode(z, which, vector), mean, log_variance


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(0, I)) = ½ Σ_latent (μ² + σ² − 1 − log σ²), averaged over chunks; a scalar in nats.

    Args:
        mean: (b, latent) μ.
        log_variance: (b, latent) log σ².

    Source: CAO-LLM §2.3, Eq. 3.
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2


def masked_mse(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error over the places that carry weights; padding has no part in it.

    Args:
        output: (b, c).
        target: (b, c).
        mask: (b, c) bool, False on the padding.

    Source: CAO-LLM §2.3, Eq. 3.
    """
    assert output.shape == target.shape == mask.shape, (output.shape, target.shape, mask.shape)
    squares = torch.where(mask, output - target, torch.zeros_like(output)).square()
    return squares.sum() / mask.sum()


def kl_weight(step: int, steps: int, final: float = KL_WEIGHT) -> float:
    """Return λ: 0 at the first step, ``final`` at the last, linear between.

    Args:
        step: from 0 to ``steps`` - 1.
        steps: of the whole training.
        final: λ at the end.

    Source: CAO-LLM F.2.
    """
    assert 0 <= step < steps, (step, steps)
    return final * step / max(1, steps - 1)

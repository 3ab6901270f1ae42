"""The trained generator: conditioning tensor in, LoRA adapter out, one forward pass and no gradient.

Source: CAO-LLM §2.2, E.
"""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256, initial_lora
from cao.model.profiles import LORA_TARGETS
from cao.sealed import read_sealed, write_sealed
from tools.generate_lora.core_head import CoreHead
from tools.generate_lora.decoder import HyperConvDecoder, Ladder
from tools.generate_lora.generator_file import GeneratorHeader, Head, Identity, check_statistics, written
from tools.generate_lora.statistics import Statistics
from tools.generate_lora.tokens import (
    TokenLayout,
    flatten,
    join,
    position_codes,
    unflatten,
)

__all__ = ["Identity", "TrainedGenerator", "load_generator"]

POSITION_WIDTH = 64
"""Channels of the position code."""
BLOCK = 8
"""Conditioning tensors that go through the decoder together: bounds memory, however many prompts there are."""


class TrainedGenerator(nn.Module):
    """Decoder, statistics and token layout for one base model.

    Attributes:
        layout: the tokens.
        head: what the decoder writes.
        identity: base model, encoder, initialisation.
        initial: the LoRA initialisation that residuals are added to.
        made: how it was trained, for the index and the report.
        sha256: hash of its weights and header, empty before it is saved.
    """

    centre: Tensor
    scale: Tensor
    codes: Tensor
    origin: Tensor

    def __init__(
        self,
        ladder: Ladder,
        layout: TokenLayout,
        statistics: Statistics,
        identity: Identity,
        *,
        train_centre: bool,
        head: Head = "tokens",
        empty: bool = False,
    ) -> None:
        """Make an untrained generator; with mode ``element`` it returns about the statistics' centre.

        Args:
            ladder: sizes of the decoder; its last shape is what ``head`` needs for the layout.
            layout: the tokens.
            statistics: how residuals are normalised.
            identity: what it is for.
            train_centre: whether the element-wise centre is trained with the rest (mode ``element`` only).
            head: ``tokens`` writes every scalar; ``core`` writes small matrices into the centre, the shared adapter.
            empty: whether its weights are without content yet, on the device ``meta``: no random number is drawn.

        Raises:
            InputError: the ladder does not end in what the head needs, or the initialisation cannot be drawn again.
        """
        super().__init__()
        wanted = written(head, layout)
        if ladder.shapes[-1] != wanted:
            raise InputError(f"a ladder that ends in {ladder.shapes[-1]} does not make the layout's {head} {wanted}")
        if head == "core" and statistics.mode != "element":
            raise InputError("the core head changes a shared adapter: it needs element-wise statistics")
        self.head = head
        self.layout, self.identity, self.mode = layout, identity, statistics.mode
        self.made: dict[str, object] = {}
        self.sha256 = ""
        self.initial = initial_lora(
            layout.shapes(), LORA_TARGETS, layout.rank, layout.alpha, identity.initial_seed, identity.base_sha256
        )
        if adapter_sha256(self.initial) != identity.initial_sha256:
            raise InputError(
                f"LoRA initialisation {identity.initial_seed} is {adapter_sha256(self.initial)[:12]} here, the "
                f"generator was trained from {identity.initial_sha256[:12]}"
            )
        with torch.device("meta") if empty else nullcontext():
            self.decoder = HyperConvDecoder(ladder)
            self.own = nn.Linear(ladder.shapes[-2][0], 2 * layout.layers) if self.mode == "layer" else None
            self.core = CoreHead(layout) if head == "core" else None
            self.place = nn.Linear(POSITION_WIDTH + 1, 2) if head == "tokens" else None
            for parameter in self.place.parameters() if self.place else ():
                nn.init.zeros_(parameter)
        ones = torch.ones(layout.tokens, 1)  # E.3's state S, one start: every file's ``place`` holds weights for it
        self.register_buffer("codes", torch.cat([position_codes(layout, POSITION_WIDTH), ones], 1), persistent=False)
        self.register_buffer("origin", flatten(self.initial.tensors, layout), persistent=False)
        centre = statistics.centre.clone()
        if train_centre and self.mode == "element":
            self.centre = nn.Parameter(centre)
        else:
            self.register_buffer("centre", centre)
        self.register_buffer("scale", statistics.scale.clone())

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.scale.device

    @property
    def base_sha256(self) -> str:
        """The base model it generates for."""
        return self.identity.base_sha256

    @property
    def prompts(self) -> int:
        """N, prompts of one conditioning tensor."""
        return self.decoder.ladder.prompts

    @property
    def statistics(self) -> Statistics:
        """The normalisation, in its present state."""
        return Statistics(self.mode, self.centre, self.scale)

    def forward(self, conditioning: Tensor) -> tuple[Tensor, Tensor]:
        """Decode conditioning tensors to the scalars of tokens (head ``tokens``).

        Args:
            conditioning: (B, N, L, C) float32, padding zero.

        Returns:
            Normalised scalars (B, layers, D_l), and z-scored layer statistics (B, layers, 2), or (B, layers, 0).
        """
        assert self.place is not None, self.head
        images, features = self.decoder(conditioning)
        gain, offset = self.place(self.codes).unbind(1)
        images = images * (1 + gain[:, None, None]) + offset[:, None, None]
        height, width = self.layout.token
        normal = join(images[..., :height, :width], self.layout)
        own = self.own(features).view(len(normal), self.layout.layers, 2) if self.own is not None else normal[..., :0]
        return normal, own

    def residual(self, conditioning: Tensor, mask: Tensor) -> Tensor:
        """Return the residual adapters (A - A0, B), differentiable.

        Args:
            conditioning: (B, N, L, C) float32.
            mask: (B, N, L) bool; positions without a token are zeroed.

        Returns:
            (B, layers, D_l), float32.
        """
        given = conditioning * mask.unsqueeze(-1)
        if self.core is None:
            return self.statistics.restore(*self(given))
        whole: Tensor = self.core(self.decoder(given)[0], self.centre + self.origin)
        return whole - self.origin

    @torch.no_grad()
    def generate(self, conditioning: Tensor, mask: Tensor) -> LoraWeights:
        """Return one adapter for a task's prompts, however many there are.

        More than N prompts are dealt to ceil(n/N) conditioning tensors, whose residuals are averaged; places that are
        left over are filled with the prompts again in turn.

        Args:
            conditioning: (n, L, C) float32 token states, padding zero.
            mask: (n, L) bool.

        Raises:
            InputError: the token states are not of the size that the generator reads, or there are none.
            ValueError: a generated scalar is not finite.

        Source: CAO-LLM §2.2, E.
        """
        wanted = self.decoder.ladder.shapes[0][1:]
        if conditioning.ndim != 3 or conditioning.shape[1:] != wanted or not len(conditioning):
            shape = tuple(conditioning.shape)
            raise InputError(
                f"a conditioning tensor of shape {shape}; this generator reads (n, {wanted[0]}, {wanted[1]})"
            )
        assert conditioning.shape[:2] == mask.shape, (conditioning.shape, mask.shape)
        count = -(-len(conditioning) // self.prompts)
        rows = torch.arange(count * self.prompts) % len(conditioning)
        rows = rows.view(self.prompts, count).T  # dealt out in turn, so that no tensor is made of repeats alone
        device = self.device
        residual = torch.zeros(self.layout.layers, self.layout.length, device=device)
        for some in torch.split(rows, BLOCK):
            residual += self.residual(conditioning[some].to(device), mask[some].to(device)).sum(0)
        provenance = {"made_by": "generator", "generator": self.sha256, "prompts": str(len(mask))}
        return self.to_weights(residual / count, provenance)

    def to_weights(self, residual: Tensor, provenance: dict[str, str]) -> LoraWeights:
        """Return the adapter of a residual (layers, D_l).

        Raises:
            ValueError: a scalar is not finite.
        """
        if not bool(torch.isfinite(residual).all()):
            raise ValueError("the residual holds scalars that are not finite")
        flat = (residual.detach().float() + self.origin).cpu()
        tensors = {name: part.clone() for name, part in unflatten(flat, self.layout).items()}
        layout = self.layout
        return LoraWeights(layout.rank, layout.alpha, self.initial.targets, tensors, self.base_sha256, provenance)

    def centre_weights(self) -> LoraWeights | None:
        """Return the adapter at the centre of what it makes; None with mode ``layer``, which holds no such adapter."""
        if self.mode == "layer":
            return None
        return self.to_weights(self.centre, {"made_by": "the generator's centre", "generator": self.sha256})

    @torch.no_grad()
    def unconditional(self) -> LoraWeights:
        """Return the adapter that it makes without any prompt: every place of the conditioning is empty."""
        nothing = torch.zeros(1, *self.decoder.ladder.shapes[0], device=self.device)
        residual = self.residual(nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool))[0]
        return self.to_weights(residual, {"made_by": "generator without prompts", "generator": self.sha256})

    def to_residual(self, weights: LoraWeights) -> Tensor:
        """Return the residual (layers, D_l) of an adapter with this layout."""
        return flatten(weights.tensors, self.layout) - self.origin.cpu()

    @torch.no_grad()
    def round_as_stored(self) -> None:
        """Round the weights to what ``save`` writes, so that what is measured is what is loaded later."""
        for name, value in self.state_dict().items():
            value.copy_(value.to(self._stored_dtype(name)))

    def _stored_dtype(self, name: str) -> torch.dtype:
        """Return how a tensor is stored: bf16, but layers' statistics, which are few and exponents, in float32."""
        exact = name == "scale" or (name == "centre" and self.mode == "layer")
        return torch.float32 if exact else torch.bfloat16

    def save(self, path: Path) -> str:
        """Write the generator in one step and return its hash.

        Raises:
            ValueError: a weight is not finite; such a generator is never written.
        """
        header = GeneratorHeader(
            ladder=self.decoder.ladder,
            layout=self.layout,
            statistics=self.mode,
            head=self.head,
            identity=self.identity,
            made=self.made,
        )
        tensors = {name: value.to(self._stored_dtype(name)) for name, value in self.state_dict().items()}
        self.sha256 = write_sealed(path, header, tensors)
        return self.sha256


def load_generator(path: Path, base_sha256: str | None = None) -> TrainedGenerator:
    """Read a generator.

    Args:
        path: what ``TrainedGenerator.save`` wrote.
        base_sha256: the base model it has to be for.

    Raises:
        InputError: missing, truncated, changed, not finite, or made for another base model; the message names it.
    """
    header, tensors, sha256 = read_sealed(path, GeneratorHeader)
    theirs = header.identity.base_sha256
    if base_sha256 and theirs != base_sha256:
        raise InputError(f"{path}: made for base model {theirs[:12]}, this one is {base_sha256[:12]}")
    whole = next((name for name, value in tensors.items() if not value.is_floating_point()), None)
    if whole:
        raise InputError(f"{path}: {whole} holds no floating-point numbers")
    try:
        statistics = Statistics(header.statistics, tensors["centre"].float(), tensors["scale"].float())
        check_statistics(statistics, header.layout)
        generator = TrainedGenerator(
            header.ladder,
            header.layout,
            statistics,
            header.identity,
            train_centre=False,
            head=header.head,
            empty=True,
        )
        generator.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{path}: its weights do not fit its sizes ({error})") from None
    generator.made, generator.sha256 = header.made, sha256
    return generator.eval().requires_grad_(False)

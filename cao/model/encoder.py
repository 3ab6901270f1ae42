"""The frozen sentence encoder: token states for the generator, pooled embeddings for drift and routing."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cao.files import sha256_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CHANNELS = 384
"""C."""
MAX_TOKENS = 384
"""L. all-MiniLM-L6-v2 defaults to 256; the paper uses 384. Source: CAO-LLM §2.2, E."""


REMEMBERED = 16_384
"""Embeddings kept of the latest prompts (25 MB)."""


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """One task's prompts, encoded: it stands in for the encoder where some of them are asked for again.

    Attributes:
        encoder: what encoded them.
        prompts: N texts.
        states: (N, L, C) float32 token states, padding zero.
        mask: (N, L) bool.
    """

    encoder: "Encoder"
    prompts: list[str] = field(repr=False)
    states: Tensor = field(repr=False)
    mask: Tensor = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hash of the encoder's weights."""
        return self.encoder.sha256

    @property
    def embeddings(self) -> Tensor:
        """The prompts' sentence embeddings, (N, C) float32, unit length."""
        return pool(self.states, self.mask)

    def tokens(self, prompts: list[str]) -> list[int]:
        """Return the number of encoder tokens of each prompt before truncation."""
        return self.encoder.tokens(prompts)

    def condition(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Return the token states (n, L, C) and mask (n, L) of some of the prompts, of equal ones the first's."""
        first = {prompt: row for row, prompt in reversed(list(enumerate(self.prompts)))}
        rows = [first[prompt] for prompt in prompts]
        whole = rows == list(range(len(self.prompts)))
        return (self.states, self.mask) if whole else (self.states[rows], self.mask[rows])


@dataclass
class Encoder:
    """all-MiniLM-L6-v2, frozen.

    Attributes:
        folder: a sentence-transformers folder.
        device: where it runs.
    """

    folder: Path
    device: str = "cpu"
    _known: dict[bytes, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _held: EncodedPrompts | None = field(default=None, init=False, repr=False, compare=False)

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights' file: references of another encoder are refused by it."""
        return sha256_file(self.folder / "model.safetensors")

    @cached_property
    def _model(self) -> "SentenceTransformer":
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415  (seconds to import)

        model = SentenceTransformer(str(self.folder), device=self.device, local_files_only=True)
        model.max_seq_length = MAX_TOKENS
        return model.eval()

    def tokens(self, prompts: list[str]) -> list[int]:
        """Return the number of encoder tokens of each prompt before truncation."""
        # without ``verbose=False`` it warns of every prompt that is to be cut
        encoded = self._model.tokenizer(prompts, truncation=False, verbose=False)["input_ids"] if prompts else []
        return [len(ids) for ids in encoded]

    def overlong(self, prompts: list[str]) -> int:
        """Return how many prompts have more than 384 tokens, so that their end is cut.

        Plain text of n characters has at most n + 2 tokens: most prompts need no counting.
        """
        long = [prompt for prompt in prompts if len(prompt) + 2 > MAX_TOKENS or not prompt.isascii()]
        return sum(count > MAX_TOKENS for count in self.tokens(long))

    def condition(self, prompts: list[str], batch_size: int = 8) -> tuple[Tensor, Tensor]:
        """Return the conditioning tensor of one task and its mask.

        Args:
            prompts: N texts; beyond 384 tokens their end is cut.
            batch_size: rows encoded together, sorted by length.

        Returns:
            C of shape (N, L=384, C=384), float32, padding positions zero; mask of shape (N, L), bool.

        Source: CAO-LLM §2.2, E (token states kept, 384 tokens); masking of padding is this project's.
        """
        states = torch.zeros(len(prompts), MAX_TOKENS, self._model.get_embedding_dimension())
        mask = torch.zeros(len(prompts), MAX_TOKENS, dtype=torch.bool)
        for rows, hidden, kept in self._batches(prompts, batch_size):
            states[rows, : hidden.shape[1]] = hidden
            mask[rows, : kept.shape[1]] = kept
            self._remember(dict(zip([prompts[i] for i in rows], pool(hidden, kept), strict=True)))
        return states, mask

    def hold(self, prompts: list[str]) -> EncodedPrompts:
        """Return a task's prompts encoded, and keep them until others are held: 0.6 MB a prompt."""
        if self._held is None or self._held.prompts != prompts:
            self._held = EncodedPrompts(self, list(prompts), *self.condition(prompts))
        return self._held

    def embed(self, prompts: list[str], batch_size: int = 8) -> Tensor:
        """Return unit-length sentence embeddings of shape (N, C), float32: the masked mean of the token states.

        A prompt that was encoded lately is not encoded again.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if _key(prompt) not in self._known]
        embedded = {prompt: self._known[_key(prompt)] for prompt in prompts if _key(prompt) in self._known}
        for rows, hidden, kept in self._batches(new, batch_size):  # never all token states at once: 0.6 MB a row
            embedded.update(zip([new[i] for i in rows], pool(hidden, kept), strict=True))
        self._remember(embedded)
        if not prompts:
            return torch.zeros(0, self._model.get_embedding_dimension())
        return torch.stack([embedded[prompt] for prompt in prompts])

    def forget(self) -> None:
        """Forget what is kept, so that the next prompts are encoded whatever came before."""
        self._known.clear()
        self._held = None

    def _remember(self, embedded: dict[str, Tensor]) -> None:
        """Keep the latest embeddings, the oldest go first."""
        for prompt, row in embedded.items():
            self._known.pop(_key(prompt), None)
            self._known[_key(prompt)] = row.clone()
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    @torch.no_grad()
    def _batches(self, prompts: list[str], batch_size: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Yield row numbers, token states (b, l, C) with padding zero, and mask (b, l), shortest prompts first."""
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            features = self._model.preprocess([prompts[i] for i in rows])
            output = self._model[0]({k: v.to(self.device) for k, v in features.items() if isinstance(v, Tensor)})
            hidden, kept = output["token_embeddings"].float().cpu(), output["attention_mask"].bool().cpu()
            yield rows, hidden * kept.unsqueeze(-1), kept


def _key(prompt: str) -> bytes:
    """Return what a prompt is remembered by: a stream may hold long ones."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()


def pool(states: Tensor, mask: Tensor) -> Tensor:
    """Return the masked mean of token states, scaled to unit length, as all-MiniLM-L6-v2 defines its embedding.

    Args:
        states: (N, L, C), padding zero.
        mask: (N, L), bool.

    Returns:
        (N, C), float32.
    """
    assert states.shape[:2] == mask.shape, (states.shape, mask.shape)
    mean = states.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.nn.functional.normalize(mean, dim=-1)

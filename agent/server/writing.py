"""One text while it is written: how its tokens are drawn, where it stops, and what of it can be sent already."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from cao.errors import NotApplicableError
from cao.inference.generation import before_stop, decoded
from cao.inference.sampling import draw
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row

Ending = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How a text is drawn.

    Attributes:
        max_tokens: its budget.
        temperature: 0 takes the likeliest token.
        top_p: the likeliest tokens with this probability stay.
        seed: None for another text each time.
        stop: texts that end it.
        logprobs: whether the tokens' log-probabilities are wanted.
        whole: whether it is wanted in one piece.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    whole: bool = True


@dataclass(frozen=True)
class Piece:
    """What is new of a text.

    Attributes:
        text: of it, may be empty.
        tokens: written since the last piece, those of the end included.
        logprobs: of these, nats; empty where they are not wanted.
        ending: why the text ended with this piece, None where it goes on.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    ending: Ending | None = None


@dataclass
class Writing:
    """A text under way.

    Attributes:
        prompt: its tokens.
        sampling: how it is drawn.
        tell: takes each new piece, or what went wrong; called from the model's thread.
        gone: nobody waits for it any more.
    """

    prompt: list[int]
    sampling: Sampling
    tell: Callable[[Piece | Exception], None]
    gone: bool = False
    _tokens: list[int] = field(default_factory=list, init=False, repr=False)
    _new: list[tuple[int, float]] = field(default_factory=list, init=False, repr=False)
    _sent: int = field(default=0, init=False, repr=False)
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        seed = secrets.randbits(62) if self.sampling.seed is None else self.sampling.seed % 2**63
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def row(self) -> Row:
        """The prompt as a batch takes it."""
        return Row(self.prompt, len(self.prompt), (), 0)

    @property
    def written(self) -> int:
        """Tokens so far."""
        return len(self._tokens)

    def draw(self, logits: Tensor) -> int:
        """Return the next token.

        Args:
            logits: (V), float32, on the CPU.

        Raises:
            NotApplicableError: they are not finite.
        """
        if not bool(torch.isfinite(logits.max())):
            raise NotApplicableError("the model's scores are not finite")
        how = self.sampling
        greedy = how.temperature == 0 or how.top_p == 0
        temperature = 0.0 if greedy else how.temperature
        drawn = draw(logits[None], temperature=temperature, top_k=0, top_p=how.top_p, generator=self._generator)
        token = int(drawn)
        logprob = float(logits[token] - logits.logsumexp(-1)) if how.logprobs else 0.0
        self._tokens.append(token)
        self._new.append((token, logprob))
        return token

    def goes_on(self, lm: LanguageModel, ends: set[int]) -> bool:
        """Tell what is new behind a drawn token; return whether the text goes on.

        Args:
            lm: whose tokenizer.
            ends: tokens that end a text.
        """
        how, text = self.sampling, decoded(lm, self._tokens)
        before = before_stop(text, how.stop)
        stopped = self._tokens[-1] in ends or before is not None
        ending: Ending | None = "stop" if stopped else "length" if self.written >= how.max_tokens else None
        text = text if before is None else before
        upto = len(text) if ending else 0 if how.whole else _settled(text, how.stop)
        fresh = text[self._sent : upto]
        if fresh or ending:
            tokens, logprobs = zip(*self._new, strict=True)
            self._new = []
            self._sent = max(self._sent, upto)
            self.tell(Piece(fresh, tokens, logprobs if how.logprobs else (), ending))
        return ending is None


def _settled(text: str, stop: tuple[str, ...]) -> int:
    """Return how many characters of a text cannot change: no half of a character, no beginning of a stop text."""
    held = next((n for n in range(min(3, len(text)) + 1) if not text[: len(text) - n].endswith("\ufffd")), 0)
    text = text[: len(text) - held]
    begun = (n for n in range(max(map(len, stop), default=1) - 1, 0, -1) if any(text.endswith(s[:n]) for s in stop))
    return len(text) - next(begun, 0)

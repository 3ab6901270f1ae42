"""Greedy generation in batches, with stop texts and with SLOT's δ for each row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cao.errors import NotApplicableError
from cao.inference.batching import by_batches
from cao.inference.hidden_cache import hidden_states
from cao.inference.row_batch import RowBatch
from cao.inference.scoring import Move, context_length, shortened, start_token
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.progress import Progress, silent

TOKEN_BUDGET = 8192
"""Tokens of one batch, answers at their full budget: what bounds the cache of keys and values."""


@dataclass(frozen=True)
class Generated:
    """One generated answer.

    Attributes:
        text: up to the first stop text, which is not part of it.
        logprob: summed log-probability of every generated token, those of the stop included, nats.
        tokens: how many those are.
        cut: prompt tokens that did not fit the model's context.
    """

    text: str
    logprob: float
    tokens: int
    cut: int = 0

    @property
    def mean_prob(self) -> float:
        """Geometric mean of the tokens' probabilities."""
        return math.exp(self.logprob / max(1, self.tokens))


@dataclass
class _Answer:
    """A row of the batch while it is being written."""

    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    text: str = ""
    done: bool = False


def decoded(lm: LanguageModel, tokens: list[int]) -> str:
    """Return the text of tokens that a model wrote, without its control tokens."""
    return str(lm.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def before_stop(text: str, stop: Sequence[str]) -> str | None:
    """Return ``text`` up to the first stop text, or None where there is none."""
    starts = [position for position in (text.find(mark) for mark in stop) if position >= 0]
    return text[: min(starts)] if starts else None


def _plan(lm: LanguageModel, prompt: str, max_new_tokens: int) -> Row:
    tokens = lm.encode(prompt) or [start_token(lm)]
    cut = max(0, len(tokens) - max(1, context_length(lm) - len(lm.virtual) - max_new_tokens))
    read = lm.virtual + shortened(lm, tokens, cut)
    return Row(read, len(read), (), cut)


def _choose(lm: LanguageModel, hidden: Tensor, delta: Tensor | None) -> tuple[list[int], list[float]]:
    """Return the likeliest next token of each row and its log-probability."""
    states = hidden if delta is None else hidden.float() + delta
    scores, tokens = lm.logits(states).float().log_softmax(-1).max(-1)
    if not bool(torch.isfinite(scores).all()):
        raise NotApplicableError(lm.not_finite())
    return tokens.tolist(), scores.tolist()


def _write(
    lm: LanguageModel, rows: Sequence[Row], stop: Sequence[str], max_new_tokens: int, delta: Tensor | None
) -> list[_Answer]:
    """Write one batch greedily; a finished row leaves the batch and its cache."""
    answers = [_Answer() for _ in rows]
    live, ends, batch = list(range(len(rows))), lm.end_tokens(), RowBatch(lm, rows)
    for _ in range(max_new_tokens):
        chosen, scores = _choose(lm, batch.step(), delta)
        for i, token, score in zip(live, chosen, scores, strict=True):
            answer = answers[i]
            answer.tokens.append(token)
            answer.logprob += score
            answer.text = decoded(lm, answer.tokens)
            before = before_stop(answer.text, stop)
            answer.done = token in ends or before is not None
            answer.text = answer.text if before is None else before
        keep = [slot for slot, i in enumerate(live) if not answers[i].done]
        if not keep:
            break
        if len(keep) < len(live):
            delta = None if delta is None else delta[torch.tensor(keep, device=lm.device)]
            live = [live[slot] for slot in keep]
        batch.go_on(keep, [chosen[slot] for slot in keep])
    return answers


@torch.inference_mode()
def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    move: Move | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[Generated]:
    """Continue every prompt greedily.

    The model's own generation defaults (sampling, repetition penalty) are not used. A prompt that is too long
    keeps its end.

    Args:
        lm: the model, with an adapter or without.
        prompts: Q texts.
        max_new_tokens: the budget of one answer, at least 1.
        stop: texts that end an answer.
        move: what moves each prompt's hidden states before the head, such as SLOT's δ.
        token_budget: tokens of one batch.
        progress: called after each batch.

    Returns:
        Q answers in the order of ``prompts``.

    Raises:
        NotApplicableError: the model's output is not finite.
        UnavailableError: there is not memory enough for a single prompt and its answer.
    """
    rows = [_plan(lm, prompt, max_new_tokens) for prompt in prompts]

    def written(group: list[int]) -> list[Generated]:
        batch = [rows[i] for i in group]
        delta = None if move is None else move(lm, batch, hidden_states(lm, batch))
        answers = zip(batch, _write(lm, batch, stop, max_new_tokens, delta), strict=True)
        return [Generated(answer.text, answer.logprob, len(answer.tokens), row.cut) for row, answer in answers]

    lengths = [row.prompt + max_new_tokens for row in rows]
    return by_batches(lengths, token_budget, written, "generate", progress)

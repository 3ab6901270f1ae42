"""The scoring engine: how likely a language model finds each continuation of each prompt.

A question's prompt is read once with all its branches behind it. A tree-shaped attention mask lets a branch
see the prompt and itself, and positions count on from the prompt in every branch, so each branch is scored as
if it stood alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cao.errors import InputError, NotApplicableError
from cao.inference.batching import by_batches
from cao.inference.hidden_cache import Reader, hidden_states
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row, Shared, Span
from cao.progress import Progress, silent
from cao.types import Query

TOKEN_BUDGET = 2048
"""Tokens of one batch, the longest row's times the rows."""

CHUNK_BYTES = 2**27
"""Bound on one block of float32 logits."""

Move = Callable[[LanguageModel, Sequence[Row], Tensor], Tensor]
"""(model, B rows, (T, d) hidden states of their tokens) → (B, d) float32, added to a row's states before the head."""

SLICE = 32
"""Positions whose log-probabilities are normalised at once."""


@dataclass(frozen=True)
class BranchScore:
    """One branch's summed log-probability in nats, over ``tokens`` tokens and ``chars`` characters."""

    logprob: float
    tokens: int
    chars: int

    @property
    def per_char(self) -> float:
        """Log-probability per character, outer space not counted: a letter's is its raw one."""
        return self.logprob / self.chars


@dataclass(frozen=True)
class QueryScore:
    """The scores of one question's branches, and how many prompt tokens did not fit the model's context."""

    branches: tuple[BranchScore, ...]
    cut: int = 0


def common_prefix(first: Sequence[object], second: Sequence[object]) -> int:
    """Return how many tokens two sequences begin with in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def start_token(lm: LanguageModel) -> int:
    """Return the token that stands before a text which has nothing before it."""
    token: int | None = lm.tokenizer.bos_token_id
    return int(lm.tokenizer.eos_token_id) if token is None else token


NO_BOUND = 2**30
"""Tokens that stand for no bound of a model's context."""


def context_length(lm: LanguageModel) -> int:
    """Return the most tokens the model reads at once; its tokenizer says how many where the configuration does not."""
    bounds = [getattr(lm.config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    return next((int(bound) for bound in bounds if bound), int(min(lm.tokenizer.model_max_length, NO_BOUND)))


def plan_row(lm: LanguageModel, query: Query) -> Row:
    """Tokenise a question so that every branch has exactly the tokens of its whole text.

    Tokens that begin before the scored text and end in it (a merge over the boundary) are scored. What all
    branches share before that is the prompt. A prompt that is too long keeps its end. The virtual tokens of a
    soft prompt that the model carries come first.

    Raises:
        InputError: no branches, nothing to score in one, or a branch longer than the model's context.
        NotApplicableError: it is longer only with the virtual tokens before it.
    """
    wholes, known = [], []
    for branch in query.branches:
        context = query.prefix + branch.lead
        wholes.append(lm.encode(context + branch.scored))
        known.append(common_prefix(lm.encode(context), wholes[-1]))
    if not wholes or any(k == len(whole) for k, whole in zip(known, wholes, strict=True)):
        raise InputError(f"nothing to score behind {query.prefix[-60:]!r}: every answer needs a text")
    if min(known) == 0:  # the first token of a text has no probability of its own
        wholes, known = [[start_token(lm), *whole] for whole in wholes], [k + 1 for k in known]
    prompt = min(known)
    for whole in wholes[1:]:
        prompt = min(prompt, common_prefix(wholes[0], whole))
    room = context_length(lm) - len(lm.virtual) - (max(map(len, wholes)) - prompt)
    if room < 1:
        longer = f"longer than the model's context of {context_length(lm)} tokens"
        if room + len(lm.virtual) >= 1:
            raise NotApplicableError(f"behind {len(lm.virtual)} virtual tokens an answer is {longer}")
        raise InputError(f"an answer is {longer}")
    cut = max(0, prompt - room)
    tokens, spans = lm.virtual + shortened(lm, wholes[0][:prompt], cut), []
    read = len(tokens)
    for whole, k in zip(wholes, known, strict=True):
        start = len(tokens)
        tokens += whole[prompt:]
        spans.append(Span(start, start + k - prompt, len(tokens)))
    return Row(tokens, read, tuple(spans), cut)


def shortened(lm: LanguageModel, tokens: list[int], cut: int) -> list[int]:
    """Return a prompt without some tokens of its beginning; what opens every text of the model stays before the rest.

    Args:
        lm: the model.
        tokens: of the prompt.
        cut: how many are left out.
    """
    if not cut:
        return tokens
    opening = lm.encode("")
    kept = len(opening) if tokens[: len(opening)] == opening and len(opening) < len(tokens) - cut else 0
    return tokens[:kept] + tokens[cut + kept :]


def ending(lm: LanguageModel, text: str, most: int) -> list[int]:
    """Return the tokens of a text, of a longer one the last ``most`` behind what opens every text."""
    tokens = lm.encode(text)
    return shortened(lm, tokens, max(0, len(tokens) - most))


def shortened_row(lm: LanguageModel, row: Row, cut: int) -> Row:
    """Return a row whose prompt is ``shortened``; its branches stay as they are."""
    prompt = shortened(lm, row.tokens[: row.prompt], cut)
    spans = tuple(Span(span.start - cut, span.scored - cut, span.end - cut) for span in row.spans)
    return Row(prompt + row.tokens[row.prompt :], row.prompt - cut, spans, row.cut + cut)


def token_logprobs(lm: LanguageModel, hidden: Tensor, targets: Tensor, owner: Tensor | None = None) -> Tensor:
    """Return the log-probability of each target token, float32, in blocks of bounded memory.

    Args:
        lm: the model whose head is used.
        hidden: (M, d) hidden states that predict.
        targets: (N,) token ids.
        owner: (N,) the state that predicts each target, ascending; None where target n is predicted by state n.
    """
    owner = torch.arange(len(hidden), device=hidden.device) if owner is None else owner
    assert owner.shape == targets.shape, (owner.shape, targets.shape)
    size = max(1, CHUNK_BYTES // (4 * lm.head.weight.shape[0]))
    parts = []
    for start in range(0, len(hidden), size):
        logits = lm.logits(hidden[start : start + size])
        first, last = torch.searchsorted(owner, torch.tensor([start, start + size], device=owner.device)).tolist()
        rows, wanted = owner[first:last] - start, targets[first:last]
        for begin in range(0, len(logits), SLICE):  # few enough that their float32 stays in the cache
            some = slice(*torch.searchsorted(rows, torch.tensor([begin, begin + SLICE], device=rows.device)).tolist())
            logs = F.log_softmax(logits[begin : begin + SLICE], dim=1, dtype=torch.float32)
            parts.append(logs[rows[some] - begin, wanted[some]])
    return torch.cat(parts)


def score_batch(lm: LanguageModel, rows: Sequence[Row], move: Move | None, read: Reader) -> list[list[float]]:
    """Return the log-probability in nats of every branch of every row, by one forward pass."""
    hidden = read(lm, rows)
    where = []  # row, predicting place, target, branch; branches that go on from one place share its logits
    count = 0
    for i, (row, places) in enumerate(zip(rows, Shared.of(rows).places, strict=True)):
        where += [(i, places[before], row.tokens[t], count + branch) for branch, t, before in row.scored()]
        count += len(row.spans)
    owner, place, target, branch = torch.tensor(sorted(where), device=hidden.device).T
    (row_of, kept), state_of = torch.unique_consecutive(torch.stack([owner, place]), dim=1, return_inverse=True)
    states = hidden[kept]
    if move is not None:
        states = states.float() + move(lm, rows, hidden)[row_of]
    scores = token_logprobs(lm, states, target, state_of).double().cpu()
    if not bool(torch.isfinite(scores).all()):
        raise NotApplicableError(lm.not_finite())
    sums = iter(torch.zeros(count, dtype=torch.double).index_add_(0, branch.cpu(), scores).tolist())
    return [[next(sums) for _ in row.spans] for row in rows]


def _query_score(query: Query, row: Row, logprobs: Sequence[float]) -> QueryScore:
    branches = tuple(
        BranchScore(logprob, span.end - span.scored, max(1, len(branch.scored.strip())))
        for logprob, span, branch in zip(logprobs, row.spans, query.branches, strict=True)
    )
    return QueryScore(branches, row.cut)


def score_queries(
    lm: LanguageModel,
    queries: Sequence[Query],
    *,
    move: Move | None = None,
    token_budget: int = TOKEN_BUDGET,
    read: Reader = hidden_states,
    progress: Progress = silent,
) -> list[QueryScore]:
    """Score every branch of every question.

    Args:
        lm: the model, with an adapter or without.
        queries: Q questions.
        move: what moves each question's hidden states before the head, such as SLOT's δ.
        token_budget: padded tokens of one batch.
        read: gives hidden states; one that remembers them saves forward passes.
        progress: called after each batch.

    Returns:
        Q results in the order of ``queries``.

    Raises:
        InputError: a question cannot be asked.
        NotApplicableError: the model's output is not finite.
        UnavailableError: there is not memory enough for a single question.
    """
    rows = [plan_row(lm, query) for query in queries]

    def scored(group: list[int]) -> list[QueryScore]:
        sums = score_batch(lm, [rows[i] for i in group], move, read)
        return [_query_score(queries[i], rows[i], logprobs) for i, logprobs in zip(group, sums, strict=True)]

    return by_batches([len(row.tokens) for row in rows], token_budget, scored, "score", progress)

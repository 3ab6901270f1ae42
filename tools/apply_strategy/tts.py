"""TTS: test-time scaling over several adapters, and then routing or combining.

m batches of the unlabelled prompts give m conditioning tensors and m generated adapters. Two methods route
each question to the batch nearest to it, by Euclidean distance between sentence embeddings; three let every
adapter answer and combine the answers. These three also serve the pool: the base model and the adapters at hand.

Source: CAO-LLM §2.4, G.3 (family ``TTS``); the pool is this project's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from cao.errors import NotApplicableError
from cao.files import sha256_bytes, write_atomic
from cao.model.adapters import LoraWeights
from cao.model.cosines import pairwise
from cao.model.encoder import pool
from cao.model.soft_prompt.either import Carried
from cao.strategies.tts import COMBINING, ROUTING, TTS
from cao.types import AdaptedModel, AdapterRef
from tools.apply_strategy.inputs import Inputs

P = TypeVar("P")

TIE = 1e-13
"""Nats between neighbours in the order: equal votes and equal mean probabilities would leave no order between them."""

VOTE_SHARE = 1e-6
"""Part of a combined probability that is the share of votes: keeps equal mean probabilities in the votes' order."""


class Member(NamedTuple):
    """One that answers: an adapter with its weights, or the base model without one."""

    adapter: AdapterRef | None
    weights: Carried | None


def apply(strategy: TTS, inputs: Inputs) -> AdaptedModel:
    """Gather the members, and what questions are routed by where they are.

    Raises:
        NotApplicableError: there are fewer prompts than batches, or fewer than two members beside the pool's repeats.
    """
    members: list[Member] = [] if strategy.members == "batches" else pool_members(inputs)
    said = [f"{len(members)} members of the pool, the base model among them"] if members else []
    embeddings: list[Tensor] = []
    if strategy.members != "pool":
        made, embeddings = batch_members(strategy.num_prompt_batches, inputs)
        members += made if strategy.members == "batches" else _besides(members, made)
        said.insert(0, f"{len(made)} adapters from as many prompt batches")
    if strategy.members != "batches" and len(members) < 2:
        raise NotApplicableError("the pool holds nothing besides the base model")
    note = f"{' and '.join(said)}, together by {strategy.method}{_alike(members)}"
    adapters = tuple(member.adapter for member in members)
    together = {"members": adapters, "method": strategy.method, "note": note, "centroids": None}
    if strategy.method not in ROUTING:
        return inputs.current.model_copy(update=together)
    data = save({"places": centroids(embeddings, strategy.method).contiguous()})
    path = inputs.store / f"routes-{sha256_bytes(data)}.safetensors"
    write_atomic(path, data)
    return inputs.current.model_copy(update={**together, "centroids": str(path)})


def pool_members(inputs: Inputs) -> list[Member]:
    """Return the base model, the current adapter and the adapters at hand, each once; the latter go to the store."""
    (current,) = inputs.current.members
    found: list[Member] = [Member(None, None)]
    if current:
        found.append(Member(current, inputs.weights()))
    at_hand = [weights for sha256, weights in inputs.pool.items() if current is None or sha256 != current.sha256]
    return found + [Member(inputs.keep(weights), weights) for weights in at_hand]


def batch_members(m: int, inputs: Inputs) -> tuple[list[Member], list[Tensor]]:
    """Return an adapter from each of m batches of prompts, and the batches' sentence embeddings, (n_i, C)."""
    members, embeddings = list[Member](), list[Tensor]()
    given = inputs.conditioning()
    batches = prompt_batches(range(len(given.kept)), m, inputs.seed)
    for done, rows in enumerate(batches, 1):
        weights = given.adapter(rows)
        members.append(Member(inputs.keep(weights), weights))
        embeddings.append(pool(given.states[rows], given.mask[rows]))
        inputs.progress("generating adapters", done, len(batches))
    return members, embeddings


def _besides(members: list[Member], more: list[Member]) -> list[Member]:
    """Return those that are not among the members, each once."""
    known = {member.adapter and member.adapter.sha256 for member in members}
    found = {member.adapter and member.adapter.sha256: member for member in more}
    return [member for sha256, member in found.items() if sha256 not in known]


def _alike(members: list[Member]) -> str:
    """Return how alike the members' changes of the weights are; nothing where no two members change any."""
    pairs = pairwise([member.weights for member in members if isinstance(member.weights, LoraWeights)])
    if not len(pairs):
        return ""
    low, middle = pairs.min(), np.median(pairs)
    return f"; cosines of their changes of the weights: {low:.3f} at least, {middle:.3f} in the median"


def prompt_batches(prompts: Sequence[P], m: int, seed: int) -> list[list[P]]:
    """Divide the prompts into m batches whose sizes differ by one at most, each prompt in exactly one.

    Args:
        prompts: the unlabelled prompts, or what stands for them.
        m: number of batches.
        seed: of the shuffle.

    Raises:
        NotApplicableError: fewer prompts than batches. They are not drawn twice: copies of one adapter would
            only count one opinion several times.
    """
    assert m >= 1, m
    if len(prompts) < m:
        raise NotApplicableError(
            f"{m} prompt batches need {m} prompts and there are {len(prompts)}: lower num_prompt_batches"
        )
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    return [[prompts[i] for i in order[start::m]] for start in range(m)]


def combine(scores: list[list[float]], method: str) -> list[float]:
    """Return one question's scores by choice from those of its members.

    ``max_confidence`` takes over the scores of the (first) member whose softmax has the highest peak.
    ``majority_vote`` ranks the choices by the members that put them first, and those with equally many by the summed
    softmax probabilities. ``sum_logprobs`` ranks them by the summed log-softmax.

    The ranks are the paper's; the scores are log-probabilities that a single model's compare with, because the loop
    accepts by the log-loss of their softmax and a sum over members would grow sharper with m, right or wrong. So
    ``sum_logprobs`` gives the mean of the log-softmax, and ``majority_vote`` the members' mean softmax, its values
    handed out again in the order of the vote. Members that agree in everything score as one of them alone.

    Args:
        scores: m lists, a member each, of the choices' normalised log-likelihoods.
        method: one of ``COMBINING``.

    Returns:
        A score for each choice; the highest is the answer.

    Source: CAO-LLM §2.4, G.3 (which answer wins); the scale of the scores is this project's.
    """
    assert scores, "no member"
    table = torch.tensor(scores, dtype=torch.double)
    assert table.ndim == 2, table.shape
    logs = table.log_softmax(1)
    if method == "max_confidence":
        return list(scores[int(logs.amax(1).argmax())])
    if method == "majority_vote":
        votes = table.argmax(1).bincount(minlength=table.shape[1])
        combined = _in_order_of_the_vote(logs.logsumexp(0) - math.log(len(scores)), votes)
    elif method == "sum_logprobs":
        combined = logs.mean(0)
    else:
        raise ValueError(f"{method} does not combine; one of {', '.join(COMBINING)}")
    return [float(value) for value in combined]


def _in_order_of_the_vote(pooled: Tensor, votes: Tensor) -> Tensor:
    """Hand out the members' mean probabilities in the order of their votes.

    Args:
        pooled: (choices,) logarithm of the members' mean softmax.
        votes: (choices,) members that put each choice first, m together.

    Returns:
        (choices,) log-probabilities in the order of the votes, and of ``pooled`` where votes are equal.
    """
    m = int(votes.sum())
    order = (votes + pooled.exp() * m / (m + 1)).argsort(descending=True, stable=True)  # the share is below one vote
    ranked = torch.empty_like(pooled)
    ranked[order] = pooled.sort(descending=True).values
    combined = torch.logaddexp(ranked + math.log1p(-VOTE_SHARE), (votes / m).log() + math.log(VOTE_SHARE))
    combined[order] -= TIE * torch.arange(len(order), dtype=combined.dtype)
    return combined


def centroids(batches: list[Tensor], method: str) -> Tensor:
    """Return what questions are routed by, in one tensor.

    Args:
        batches: m tensors (n_i, C) of unit-length sentence embeddings, one for each prompt batch.
        method: one of ``ROUTING``.

    Returns:
        Float32: (m, C) mean embeddings for ``avg_prompt_embed``; (m, n, C) all the embeddings for
        ``avg_sim_score``, n the largest batch and zero rows filling up the smaller ones.

    Source: CAO-LLM §2.4, G.3.
    """
    assert batches, "no batch"
    assert all(batch.ndim == 2 and len(batch) for batch in batches), [batch.shape for batch in batches]
    if method == "avg_prompt_embed":
        return torch.stack([batch.float().mean(0) for batch in batches])
    if method == "avg_sim_score":
        return torch.nn.utils.rnn.pad_sequence([batch.float() for batch in batches], batch_first=True)
    raise ValueError(f"{method} does not route; one of {', '.join(ROUTING)}")


def route(embeddings: Tensor, places: Tensor) -> list[int]:
    """Return, for each question, the batch that is nearest to it; the first of equally near ones.

    Args:
        embeddings: (Q, C) sentence embeddings of the questions.
        places: what ``centroids`` returned: (m, C), where the distance is that to the mean, or (m, n, C),
            where it is the mean of the distances to the batch's prompts.

    Returns:
        Q indices below m.

    Source: CAO-LLM §2.4, G.3 (Euclidean distance, which the paper found better than cosine).
    """
    assert embeddings.shape[-1] == places.shape[-1], (embeddings.shape, places.shape)
    prompts = places.unsqueeze(1) if places.ndim == 2 else places  # a mean is a batch of one
    real = (prompts != 0).any(-1) | (places.ndim == 2)
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(embeddings.float(), prompts.flatten(0, 1), compute_mode=exact)
    distances = distances.view(-1, *prompts.shape[:2]) * real
    nearest: list[int] = (distances.sum(-1) / real.sum(-1)).argmin(1).tolist()
    return nearest

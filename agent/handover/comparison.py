"""Answers of a base model, given twice, against those of an adapter: does it act?

Servers that find no layer for an adapter serve the base model under the adapter's name and say nothing. So what differs
between two answers of the base model is noise, and the adapter must differ by more.
"""

import math
from collections.abc import Sequence

from pydantic import BaseModel

from cao.types import Record

TOKENS = 16
"""Tokens of an answer."""
LEAST = 1e-3
"""Nats by which a log-probability must change to count, where there is no noise."""
OVER_NOISE = 3.0


class Verdict(Record):
    """Whether an adapter acts.

    Attributes:
        acts: it does.
        where: ``here``, or the server's address.
        prompts: how many were asked.
        changed: of these, on how many it changed anything by more than noise.
        largest: largest change of a log-probability where the text stayed, nats; None where no text did, or a server
            states none.
        noise: the same between two answers of the base model.
        reason: in a sentence.
    """

    acts: bool
    where: str
    prompts: int
    changed: int
    largest: float | None
    noise: float | None
    reason: str


class Answer(BaseModel):
    """What follows a prompt, and the log-probabilities of its tokens where they are known."""

    text: str
    logprobs: list[float] | None = None


def compared(where: str, base: Sequence[Answer], again: Sequence[Answer], adapted: Sequence[Answer]) -> Verdict:
    """Return the verdict on answers to the same prompts.

    Args:
        where: they were given.
        base: the base model's.
        again: the base model's, once more.
        adapted: the adapter's.
    """
    noises = [_distance(one, other) for one, other in zip(base, again, strict=True)]
    changes = [_distance(one, other) for one, other in zip(base, adapted, strict=True)]
    noise = max((each for each in noises if each is not None and math.isfinite(each)), default=None)
    least = max(LEAST, OVER_NOISE * (noise or 0.0))
    steady = [each is not None and each <= least for each in noises]
    changed = sum(each is not None and each > least and calm for each, calm in zip(changes, steady, strict=True))
    largest = max((each for each in changes if each is not None and math.isfinite(each)), default=None)
    if changed:
        reason = f"it changed {changed} of {len(base)} answers by more than the noise"
    elif not any(steady):
        reason = "the base model's own answers differ from one time to the next, so nothing can be told"
    else:
        reason = "with the adapter every answer is that of the base model: the base model is what is served"
    return Verdict(
        acts=changed > 0, where=where, prompts=len(base), changed=changed, largest=largest, noise=noise, reason=reason
    )


def _distance(one: Answer, other: Answer) -> float | None:
    """Return by how much two answers differ: infinity where the texts do, else in log-probability, nats."""
    if one.text != other.text:
        return math.inf
    if one.logprobs is None or other.logprobs is None:
        return 0.0
    return max((abs(a - b) for a, b in zip(one.logprobs, other.logprobs, strict=False)), default=0.0)

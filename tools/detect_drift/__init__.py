"""Stage 1, Catching: has this window of prompts drifted, how far, towards what, and of which kind is it?"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from cao.drift import DriftReport
from cao.errors import InputError
from cao.model.encoder import Encoder
from cao.tasks.prompt_text import MOSTLY, blank, distinct, is_foreign
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.verdict import Window, with_verdict
from tools.detect_drift.window import apart, draw
from tools.detect_drift.wording import (
    NOT_COMPARED,
    NOT_IDENTIFIABLE,
    in_reference,
    sentence,
    small_print,
    small_references,
)

SAME = 0.9999
"""Cosine of two embeddings from which on their prompts are taken for one."""


def detect_drift(
    prompts: Sequence[str],
    embeddings: Tensor | None,
    known: KnownTasks,
    *,
    encoder: Encoder | None = None,
    signals: Tensor | None = None,
    correct: Sequence[bool | None] | None = None,
    seed: int = 0,
    alpha: float = 0.05,
    permutations: int = 999,
) -> DriftReport:
    """Say whether a window of prompts left the tasks that it was expected from, and where it went.

    Every known task is tested with permutations. Drift means that every *current* task is rejected, so the p-value is
    the largest of theirs: an intersection-union test, which holds its level without a correction for their number.
    The report does not depend on the window's order, except for the warning about it. Of more than 512 distinct
    prompts 512 are drawn, encoded and tested, which bounds time and memory; labels count all the same.

    Args:
        prompts: N texts; blank ones and repeats are left out and reported.
        embeddings: (N, C), float32, unit length, row for row the prompts'; None encodes what is left of them here.
        known: the known tasks, and which of them are current.
        encoder: encodes, and counts tokens to report prompts that it had to cut; None only with ``embeddings``.
        signals: (N, 2), the model's option signals, float32; None where the model was not asked.
        correct: for each prompt whether the deployed model's answer was right, None where nobody knows.
        seed: of the permutations and of what is drawn, 0 or above.
        alpha: level of the test, in (0, 1).
        permutations: B; the smallest p-value is 1/(B+1).

    Raises:
        InputError: a level, seed or number of permutations out of range.
        ValueError: embeddings or signals that are not finite.

    Source: CAO-LLM §2.2 (the embeddings as early warning); the tests are this project's, ADR 0019.
    """
    if not 0 < alpha < 1 or seed < 0 or permutations < 1:
        raise InputError("drift needs 0 < alpha < 1, a seed of 0 or above and at least one permutation")
    for given in (embeddings, signals, correct):
        assert given is None or len(given) == len(prompts), "one row for each prompt"
    everything = distinct(prompts)
    kept = draw(everything, seed)
    drawn_from = len(everything) if len(everything) > len(kept) else None
    encoded = _embeddings([prompts[i] for i in kept], kept, embeddings, encoder) if kept else None
    if encoded is not None:
        rows = apart(encoded)
        kept, encoded = [kept[row] for row in rows], encoded[rows]
    texts = [prompts[i] for i in kept]
    cut = encoder.overlong(texts) if encoder is not None else 0
    foreign = sum(is_foreign(text) for text in texts)
    measured = _untested(prompts, kept, drawn_from, known, alpha)
    if encoded is not None:
        outcomes = [correct[i] for i in (everything if drawn_from else kept)] if correct is not None else []
        asked = signals[kept] if signals is not None else None
        window = Window(encoded, np.argsort(kept), asked, outcomes, covered=foreign <= MOSTLY * len(texts))
        measured = with_verdict(window, known, measured, seed=seed, permutations=permutations)
        usual = dict(zip(kept, measured.typicality, strict=True))
        measured = measured.model_copy(update={"typicality": tuple(usual.get(i) for i in range(len(prompts)))})
    caveats = small_print(measured, prompts, cut, foreign) + _of_references(measured, known, encoded, correct or ())
    return measured.model_copy(update={"caveats": tuple(caveats), "sentence": sentence(measured)})


def _of_references(
    measured: DriftReport, known: KnownTasks, encoded: Tensor | None, correct: Sequence[bool | None]
) -> list[str]:
    """Return what the known tasks leave open: few prompts, no labels, or prompts that are a reference's own."""
    if encoded is None:
        return []
    nearest = known.references[measured.nearest_task] if measured.nearest_task else None
    own = in_reference(_same(encoded, nearest.embeddings), measured) if nearest else []
    few = small_references({name: len(it.embeddings) for name, it in known.references.items()})
    compared = any(right is not None for right in correct) and measured.kind != "insufficient"
    lacking = [] if measured.feedback else [NOT_COMPARED if compared else NOT_IDENTIFIABLE]
    return few + lacking + own


def _same(encoded: Tensor, reference: Tensor) -> int:
    """Return how many prompts are in a reference too.

    Args:
        encoded: (n, C), float32, unit length.
        reference: (M, C), unit length.
    """
    return int(((encoded.cpu().float() @ reference.cpu().float().T).amax(dim=1) > SAME).sum())


def _untested(
    prompts: Sequence[str], kept: Sequence[int], drawn_from: int | None, known: KnownTasks, alpha: float
) -> DriftReport:
    """Return the report before any test.

    Args:
        prompts: all of the window.
        kept: places of those that are tested.
        drawn_from: how many distinct ones they were drawn from, None where all were kept.
        known: the known tasks.
        alpha: level of the test.
    """
    return DriftReport(
        score=0.0,
        p_value=1.0,
        drifted=False,
        nearest_task=None,
        kind="insufficient",
        current=known.expected,
        typicality=(None,) * len(prompts),
        duplicate_rate=(len(prompts) - blank(prompts) - (drawn_from or len(kept))) / max(len(prompts), 1),
        n=len(kept),
        drawn_from=drawn_from,
        alpha=alpha,
    )


def _embeddings(texts: list[str], kept: list[int], embeddings: Tensor | None, encoder: Encoder | None) -> Tensor:
    if embeddings is not None:
        return embeddings[kept]
    assert encoder is not None, "prompts without embeddings need an encoder"
    return encoder.embed(texts)

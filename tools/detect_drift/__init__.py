"""Stage 1, Catching: has this window of prompts drifted away from every task that the system knows?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from cao.encoder import MAX_TOKENS, Encoder, pool
from cao.errors import InputError
from cao.files import write_atomic
from cao.types import DriftKind, DriftReport
from tools.detect_drift.energy import energy_distance, permutation_test
from tools.detect_drift.window import MIN_PROMPTS, MOSTLY, blank, distinct, is_foreign


def detect_drift(
    prompts: Sequence[str],
    embeddings: Tensor | None,
    references: Mapping[str, Tensor],
    *,
    encoder: Encoder | None = None,
    seed: int = 0,
    alpha: float = 0.05,
    permutations: int = 999,
) -> DriftReport:
    """Say whether a window of prompts comes from none of the known tasks.

    Every known task is tested with the energy distance and permutations. Drift means that every one of them is
    rejected, so the p-value is the largest of theirs: an intersection-union test, which holds its level without a
    correction for the number of tasks. The report depends neither on the window's order nor on the other references.

    Args:
        prompts: N texts; blank ones and repeats are left out and reported.
        embeddings: (N, C), float32, unit length, row for row the prompts'; None encodes what is left of them here.
        references: task name to embeddings (m, C) of the same encoder.
        encoder: encodes, and counts tokens to report prompts that it had to cut; None only with ``embeddings``.
        seed: of the permutations, 0 or above.
        alpha: level of the test, in (0, 1).
        permutations: B; the smallest p-value is 1/(B+1).

    Raises:
        InputError: a level, seed or number of permutations out of range, or no reference.
        ValueError: embeddings that are not finite.

    Source: CAO-LLM §2.2 (the embeddings as early warning); the test is this project's.
    """
    if not 0 < alpha < 1 or seed < 0 or permutations < 1:
        raise InputError("drift needs 0 < alpha < 1, a seed of 0 or above and at least one permutation")
    if not references:
        raise InputError("drift needs at least one reference task to compare with")
    assert embeddings is None or len(embeddings) == len(prompts), "one embedding for each prompt"
    kept = distinct(prompts)
    texts = [prompts[i] for i in kept]
    caveats = _omissions(prompts, texts)
    if encoder is not None:
        caveats += _truncation(encoder.tokens(texts))
    if not kept:
        caveats.append(f"no prompt was left to measure; {MIN_PROMPTS} distinct ones are enough for a verdict")
        return DriftReport(
            score=0.0,
            p_value=1.0,
            drifted=False,
            nearest_task=None,
            kind="insufficient",
            caveats=tuple(caveats),
            alpha=alpha,
        )
    window = _window(texts, kept, embeddings, encoder)
    _check_finite({"window": window, **references})
    if len(kept) < MIN_PROMPTS:
        measured = {name: (energy_distance(window, rows), 1.0) for name, rows in references.items()}
        caveats.append(f"{len(kept)} distinct prompts are too few for a verdict; {MIN_PROMPTS} are enough")
    else:
        measured = {
            name: permutation_test(window, rows, permutations, np.random.default_rng(seed))
            for name, rows in references.items()
        }
        caveats += _resolution(permutations, alpha)
    foreign = sum(is_foreign(text) for text in texts)
    if foreign:
        caveats.append(f"the encoder does not cover the script of {foreign} of {len(texts)} prompts")
    return _report(measured, len(kept), alpha, caveats, covered=foreign <= MOSTLY * len(texts))


def condition_task(prompts: Sequence[str], encoder: Encoder, path: Path) -> Tensor:
    """Encode a task's prompts once: the conditioning tensor goes to disk, the embeddings pooled from it come back.

    The file holds ``conditioning`` (N, L=384, C=384), float32, padding zero, and ``mask`` (N, L), bool; its header
    names the encoder by hash. It is written in one step, so doing this twice is safe.

    Args:
        prompts: N texts, none blank.
        encoder: the frozen encoder.
        path: where the safetensors file goes; its folder exists.

    Returns:
        (N, C), float32, unit length.

    Raises:
        InputError: no prompts, or a blank one.

    Source: CAO-LLM §2.2, E.
    """
    if not prompts or blank(prompts):
        raise InputError("cannot encode a task without prompts or with blank ones; remove them")
    states, mask = encoder.condition(list(prompts))
    tensors = {"conditioning": states, "mask": mask}
    write_atomic(path, safetensors.torch.save(tensors, {"format": "pt", "encoder_sha256": encoder.sha256}))
    return pool(states, mask)


def _window(texts: list[str], kept: list[int], embeddings: Tensor | None, encoder: Encoder | None) -> Tensor:
    if embeddings is not None:
        return embeddings[kept]
    assert encoder is not None, "prompts without embeddings need an encoder"
    return encoder.embed(texts)


def _check_finite(samples: Mapping[str, Tensor]) -> None:
    for name, rows in samples.items():
        if not bool(torch.isfinite(rows).all()):
            raise ValueError(f"the embeddings of {name!r} hold values that are not finite")


def _report(
    measured: dict[str, tuple[float, float]], n: int, alpha: float, caveats: list[str], *, covered: bool
) -> DriftReport:
    enough = n >= MIN_PROMPTS
    distances = {name: distance for name, (distance, _) in measured.items()}
    nearest = min(distances, key=lambda name: distances[name])
    p_value = max(p for _, p in measured.values())
    drifted = enough and p_value <= alpha
    return DriftReport(
        score=distances[nearest],
        p_value=p_value,
        drifted=drifted,
        nearest_task=nearest if covered else None,
        kind=_kind(enough, covered, drifted),
        caveats=tuple(caveats),
        distances=distances,
        p_values={name: p for name, (_, p) in measured.items()} if enough else {},
        n=n,
        alpha=alpha,
    )


def _kind(enough: bool, covered: bool, drifted: bool) -> DriftKind:
    if not enough:
        return "insufficient"
    if not covered:
        return "not_covered"
    return "domain_transfer" if drifted else "none"


def _omissions(prompts: Sequence[str], texts: Sequence[str]) -> list[str]:
    empty = blank(prompts)
    repeats = len(prompts) - empty - len(texts)
    caveats = []
    if empty:
        caveats.append(f"{empty} of {len(prompts)} prompts are blank and were left out")
    if repeats:
        rate = repeats / len(prompts)
        caveats.append(f"{repeats} of {len(prompts)} prompts ({rate:.0%}) repeat another one and were left out")
    return caveats


def _truncation(tokens: Sequence[int]) -> list[str]:
    cut = sum(count > MAX_TOKENS for count in tokens)
    if not cut:
        return []
    return [f"{cut} of {len(tokens)} prompts are longer than {MAX_TOKENS} tokens; the encoder did not see their end"]


def _resolution(permutations: int, alpha: float) -> list[str]:
    smallest = 1 / (permutations + 1)
    stated = f"the smallest p-value that {permutations} permutations can give is {smallest:.3g}"
    if smallest > alpha:
        return [f"{stated}, above the level {alpha:g}: no drift can be found; use more permutations"]
    return [f"{stated}, coarse for the level {alpha:g}"] if smallest > alpha / 10 else []

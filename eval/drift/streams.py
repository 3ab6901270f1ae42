"""Prompts until a false alarm, and from a change to the alarm."""

import numpy as np
from numpy.typing import NDArray

from eval.drift.prompts import UNKNOWN
from eval.drift.results import Delay, RunLength, Stream
from eval.drift.windows import ARC, Windows
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.reference import IN_DOMAIN
from tools.detect_drift.sequential import Strangeness, StreamDetector, alarms

RUN_LENGTH = 1000.0
LONGEST = 10_000
"""Prompts after which a stream without an alarm is cut off; its run length counts as this."""

Array = NDArray[np.float64]
Bags = list[list[float]]


def stream(windows: Windows) -> Stream:
    """Prompts until a false alarm, and from a change to the alarm, with a run length of 1,000 promised."""
    runs, delays = max(4, windows.count // 40), max(2, windows.count // 500)
    lengths: dict[str, list[int]] = {"fresh bag": [], "shipped bag": [], "one of six expected tasks": []}
    every = Strangeness(KnownTasks(windows.references))
    bags = every.usual()
    waits: dict[str, list[tuple[bool, int]]] = {"1.0": [], "0.5": [], "0.25": []}
    for done, task in enumerate(IN_DOMAIN):
        windows.progress(f"streams of {task}", done, len(IN_DOMAIN))
        strange = Strangeness(KnownTasks(windows.references, (task,)))
        usual, own = strange.usual(), strange(windows.pool[task].embeddings)
        among = every(windows.pool[task].embeddings)
        for _ in range(runs):
            fresh = [windows.rng.choice(own[:, 0], len(usual[0])).tolist()]
            for name, scores, bag in zip(lengths, (own, own, among), (fresh, usual, bags), strict=True):
                seed = int(windows.rng.integers(2**31))
                lengths[name].append(alarms(windows.rng.choice(scores, LONGEST), bag, RUN_LENGTH, seed) or LONGEST)
        for source in (*IN_DOMAIN, *UNKNOWN):
            if source != task:
                other = strange(windows.pool[source].embeddings)
                for share, several in waits.items():
                    several += [
                        ((task, source) == ARC, wait)
                        for _ in range(delays)
                        if (wait := _delay(windows.rng, usual, own, other, float(share))) is not None
                    ]
    return Stream(
        run_length={name: _mean_with_bound(several) for name, several in lengths.items()},
        delay={share: _delays(several) for share, several in waits.items()},
    )


def _delays(waits: list[tuple[bool, int]]) -> Delay:
    others = [wait for arc, wait in waits if not arc]
    return Delay(
        median=float(np.median(others)),
        p90=float(np.quantile(others, 0.9)),
        arc_median=float(np.median([wait for arc, wait in waits if arc])),
        n=len(waits),
    )


def _delay(
    rng: np.random.Generator, bags: Bags, own: Array, other: Array, share: float, before: int = 200, after: int = 1000
) -> int | None:
    """Return the prompts from a change to the alarm (at most ``after``), None where an alarm came before it."""
    detector = StreamDetector(bags, RUN_LENGTH, int(rng.integers(2**31)))
    if any([detector.update(score) for score in rng.choice(own, before).tolist()]):
        return None
    changed = np.where(rng.random((after, 1)) < share, rng.choice(other, after), rng.choice(own, after))
    return next((i for i, score in enumerate(changed.tolist(), 1) if detector.update(score)), after)


def _mean_with_bound(lengths: list[int]) -> RunLength:
    mean, error = float(np.mean(lengths)), float(np.std(lengths, ddof=1) / np.sqrt(len(lengths)))
    cut = sum(length == LONGEST for length in lengths)
    return RunLength(mean=mean, lower95=mean - 1.645 * error, runs=len(lengths), cut_off=cut)

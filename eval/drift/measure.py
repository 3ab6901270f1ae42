"""What the drift sense reaches: false alarms, power, kinds, naming, option signals, streams and speed.

Known tasks are the shipped references (from ``train`` parts). Windows are drawn without replacement from prompts of
the other parts; windows of one cell overlap, for there are at most 1,000 prompts of a task.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.progress import Progress
from eval.drift.prompts import UNKNOWN, Pool, pools, signals
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.reference import IN_DOMAIN, REFERENCE_PROMPTS, SHIPPED
from tools.detect_drift.reference_file import read_reference
from tools.detect_drift.sequential import Strangeness, StreamDetector, alarms
from tools.detect_drift.two_sample import compare
from tools.detect_drift.verdict import nearest_of
from tools.evaluate.statistics import wilson

SIZES = (8, 16, 32, 64)
LEVELS = (0.05, 0.01)
PERMUTATIONS = 499
ARC = ("arc_easy", "arc_challenge")
RUN_LENGTH = 1000.0
LONGEST = 10_000
"""Prompts after which a stream without an alarm is cut off; its run length counts as this."""


PValues = dict[str, float]

TESTS = ("energy", "outliers", "mixture", "together")


def _given(p: float | None) -> float:
    assert p is not None, "a test was not made"
    return p


@dataclass
class Bench:
    """What the measurements share.

    Attributes:
        references: the known tasks.
        pool: task → prompts that no reference holds.
        windows: windows of a cell, about.
        seed: of the pools.
        rng: draws windows.
        progress: hears about the work.
    """

    references: dict[str, Reference]
    pool: dict[str, Pool]
    windows: int
    seed: int
    rng: np.random.Generator
    progress: Progress

    def draw(self, task: str, n: int) -> Tensor:
        """Return the embeddings of ``n`` different prompts."""
        rows = self.pool[task].embeddings
        return rows[torch.from_numpy(self.rng.choice(len(rows), n, replace=False))]

    def p_values(self, known: KnownTasks, task: str, window: Tensor) -> PValues:
        """Return the p-value of each test of the prompts, and of all together."""
        seed = int(self.rng.integers(2**31))
        apart, logs = known.distances_to(window, (task,)), known.log_probabilities(window)
        found = compare(known, window, apart, logs, None, permutations=PERMUTATIONS, seed=seed)[task]
        return {
            "energy": _given(found.p_energy),
            "outliers": _given(found.p_outliers),
            "mixture": _given(found.p_mixture),
            "together": _given(found.p_value),
        }


def analyse(
    windows: int, seed: int, progress: Progress, only: Sequence[str] = (), before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Measure everything, or some of it again.

    Args:
        windows: windows of a cell, about.
        seed: of the draws; every measurement draws from a stream of its own.
        progress: hears about the work.
        only: the measurements to make, all if empty.
        before: what was measured before with the same windows and seed; the other measurements are taken from it.

    Raises:
        InputError: an unknown measurement, or nothing usable to take the others from.
    """
    unknown = [name for name in only if name not in STEPS]
    if unknown:
        raise InputError(f"no measurement is called {', '.join(unknown)}; there are {', '.join(STEPS)}")
    before = before or {}
    lacking = [name for name in STEPS if only and name not in only and name not in before]
    if lacking or (only and (before.get("windows"), before.get("seed")) != (windows, seed)):
        raise InputError(
            "--only needs a drift.json in --out with the same --windows and --seed; measure all of it first"
        )
    encoder = Encoder(minilm_folder())
    references = {name: read_reference(SHIPPED / f"{name}.safetensors", encoder.sha256) for name in IN_DOMAIN}
    pool = pools((*IN_DOMAIN, *UNKNOWN), encoder, seed, progress)
    found: dict[str, Any] = {"windows": windows, "seed": seed}
    for number, (name, step) in enumerate(STEPS.items()):
        bench = Bench(references, pool, windows, seed, np.random.default_rng([seed, number]), progress)
        found[name] = step(bench) if not only or name in only else before[name]
    return found


def rate(hits: Sequence[bool]) -> dict[str, Any]:
    """Return a share with its 95 % Wilson interval."""
    low, high = wilson(sum(hits), len(hits))
    return {"rate": sum(hits) / len(hits), "ci95": [low, high], "windows": len(hits)}


def false_alarms(bench: Bench) -> list[dict[str, Any]]:
    """Windows of a task against its shipped reference: pooled over the tasks, and the range over them."""
    known, rows = KnownTasks(bench.references), []
    for n in SIZES:
        found: dict[str, list[PValues]] = {}
        for done, task in enumerate(IN_DOMAIN):
            bench.progress(f"false alarms, windows of {n}", done, len(IN_DOMAIN))
            count = -(-bench.windows // len(IN_DOMAIN))
            found[task] = [bench.p_values(known, task, bench.draw(task, n)) for _ in range(count)]
        rows += _level_rows(n, found)
    return rows


def redrawn_references(bench: Bench) -> list[dict[str, Any]]:
    """The same with references drawn anew from the pools, the rest of which gives the windows."""
    draws, each = max(2, bench.windows // 120), 20
    found: dict[int, dict[str, list[PValues]]] = {n: {} for n in SIZES}
    for draw in range(draws):
        bench.progress("false alarms with redrawn references", draw, draws)
        references, rest = {}, {}
        for task in IN_DOMAIN:
            rows = bench.pool[task].embeddings
            order = torch.from_numpy(bench.rng.permutation(len(rows)))
            size = min(REFERENCE_PROMPTS, int(0.6 * len(rows)))
            references[task], rest[task] = Reference(rows[order[:size]]), rows[order[size:]]
        known = KnownTasks(references)
        for n in SIZES:
            for task in IN_DOMAIN:
                drawn = [rest[task][torch.from_numpy(bench.rng.choice(len(rest[task]), n, False))] for _ in range(each)]
                found[n][f"{task} {draw}"] = [bench.p_values(known, task, window) for window in drawn]
    return [row for n in SIZES for row in _level_rows(n, found[n])]


def _level_rows(n: int, found: dict[str, list[PValues]]) -> list[dict[str, Any]]:
    rows = []
    for level in LEVELS:
        for test in TESTS:
            each = {name: [p[test] <= level for p in p_values] for name, p_values in found.items()}
            shares = [float(np.mean(hits)) for hits in each.values()]
            pooled = rate([hit for hits in each.values() for hit in hits])
            rows.append({"n": n, "level": level, "test": test, **pooled, "range": [min(shares), max(shares)]})
    return rows


def power(bench: Bench) -> list[dict[str, Any]]:
    """Windows that wholly or partly come from elsewhere: mean over the pairs of tasks, and the worst pair."""
    known, rows = KnownTasks(bench.references), []
    inside = list(permutations(IN_DOMAIN, 2))
    outside = [(task, source) for task in IN_DOMAIN for source in UNKNOWN]
    for share, pairs in ((1.0, inside + outside), (0.25, inside), (0.1, inside)):
        count = -(-bench.windows // len(pairs))
        for n in SIZES:
            bench.progress(f"power, {share:.0%} from elsewhere, windows of {n}", 0, 1)
            alien = max(1, round(share * n))
            found = {}
            for task, source in pairs:
                windows = [torch.cat([bench.draw(task, n - alien), bench.draw(source, alien)]) for _ in range(count)]
                found[task, source] = [bench.p_values(known, task, window) for window in windows]
            rows += _power_rows(share, n, found)
    return rows


def _power_rows(share: float, n: int, found: dict[tuple[str, str], list[PValues]]) -> list[dict[str, Any]]:
    rows = []
    for level in LEVELS:
        for test in TESTS:
            each = {pair: [p[test] <= level for p in p_values] for pair, p_values in found.items()}
            others = {pair: hits for pair, hits in each.items() if pair != ARC}
            shares = {pair: float(np.mean(hits)) for pair, hits in others.items()}
            worst = min(shares, key=lambda pair: shares[pair])
            rows.append(
                {
                    "share": share,
                    "n": n,
                    "level": level,
                    "test": test,
                    **rate([hit for hits in others.values() for hit in hits]),
                    "worst": {"pair": list(worst), **rate(others[worst])},
                    "below": [[*pair, found] for pair, found in shares.items() if found < 0.95],
                    "pairs": len(others),
                    "arc": rate(each[ARC]),
                }
            )
    return rows


def kinds(bench: Bench, n: int = 32) -> dict[str, dict[str, float]]:
    """What kind of drift is reported for windows of four origins, one task being current."""
    count = max(6, bench.windows // 10)
    origins: dict[str, Callable[[str], list[tuple[str, int]]]] = {
        "no drift": lambda task: [(task, n)],
        "another known task": lambda task: [(bench.rng.choice([t for t in IN_DOMAIN if t != task]), n)],
        "an unknown task": lambda _: [(bench.rng.choice(UNKNOWN), n)],
        "25 % from a known task": lambda task: [
            (task, n - n // 4),
            (bench.rng.choice([t for t in IN_DOMAIN if t != task]), n // 4),
        ],
    }
    found: dict[str, dict[str, float]] = {}
    for origin, parts in origins.items():
        bench.progress(f"kinds: {origin}", 0, 1)
        said = []
        for i in range(count):
            task = IN_DOMAIN[i % len(IN_DOMAIN)]
            chosen = [(pool, row) for name, size in parts(task) for pool, row in _rows(bench, name, size)]
            prompts = [pool.prompts[row] for pool, row in chosen]
            window = torch.stack([pool.embeddings[row] for pool, row in chosen])
            known = KnownTasks(bench.references, (task,))
            said.append(detect_drift(prompts, window, known, seed=i).kind)
        found[origin] = {kind: said.count(kind) / count for kind in sorted(set(said))}
    return found


def _rows(bench: Bench, task: str, n: int) -> list[tuple[Pool, int]]:
    pool = bench.pool[task]
    return [(pool, int(row)) for row in bench.rng.choice(len(pool.prompts), n, replace=False)]


def nearest(bench: Bench) -> list[dict[str, Any]]:
    """How often the nearest known task is the right one."""
    rows = []
    for names in (tuple(name for name in IN_DOMAIN if name != "arc_challenge"), IN_DOMAIN):
        known = KnownTasks({name: bench.references[name] for name in names})
        count = -(-bench.windows // len(names))
        for n in (1, 4, 8, 32):
            hits = [_nearest(known, bench.draw(name, n)) == name for name in names for _ in range(count)]
            rows.append({"tasks": len(names), "n": n, **rate(hits)})
    return rows


def _nearest(known: KnownTasks, window: Tensor) -> str:
    apart, logs = known.distances_to(window), known.log_probabilities(window)
    return nearest_of(compare(known, window, apart, logs, None, permutations=0, seed=0), known.names)


def stream(bench: Bench) -> dict[str, Any]:
    """Prompts until a false alarm, and from a change to the alarm, with a run length of 1,000 promised."""
    runs, delays = max(4, bench.windows // 40), max(2, bench.windows // 500)
    lengths: dict[str, list[int]] = {"fresh bag": [], "shipped bag": [], "one of six expected tasks": []}
    every = Strangeness(KnownTasks(bench.references))
    bags = every.usual()
    waits: dict[str, list[tuple[bool, int]]] = {"1.0": [], "0.5": [], "0.25": []}
    for done, task in enumerate(IN_DOMAIN):
        bench.progress(f"streams of {task}", done, len(IN_DOMAIN))
        strange = Strangeness(KnownTasks(bench.references, (task,)))
        usual, own = strange.usual(), strange(bench.pool[task].embeddings)
        among = every(bench.pool[task].embeddings)
        for _ in range(runs):
            fresh = [bench.rng.choice(own[:, 0], len(usual[0])).tolist()]
            for name, scores, bag in zip(lengths, (own, own, among), (fresh, usual, bags), strict=True):
                seed = int(bench.rng.integers(2**31))
                lengths[name].append(alarms(bench.rng.choice(scores, LONGEST), bag, RUN_LENGTH, seed) or LONGEST)
        for source in (*IN_DOMAIN, *UNKNOWN):
            if source != task:
                other = strange(bench.pool[source].embeddings)
                for share, found in waits.items():
                    found += [
                        ((task, source) == ARC, wait)
                        for _ in range(delays)
                        if (wait := _delay(bench.rng, usual, own, other, float(share))) is not None
                    ]
    return {
        "run_length": {name: _mean_with_bound(found) for name, found in lengths.items()},
        "delay": {
            share: {
                "median": float(np.median([wait for arc, wait in found if not arc])),
                "p90": float(np.quantile([wait for arc, wait in found if not arc], 0.9)),
                "arc_median": float(np.median([wait for arc, wait in found if arc])),
                "n": len(found),
            }
            for share, found in waits.items()
        },
    }


def _delay(
    rng: np.random.Generator, bags: Any, own: Any, other: Any, share: float, before: int = 200, after: int = 1000
) -> int | None:
    """Return the prompts from a change to the alarm (at most ``after``), None where an alarm came before it."""
    detector = StreamDetector(bags, RUN_LENGTH, int(rng.integers(2**31)))
    if any([detector.update(score) for score in rng.choice(own, before).tolist()]):
        return None
    changed = np.where(rng.random((after, 1)) < share, rng.choice(other, after), rng.choice(own, after))
    return next((i for i, score in enumerate(changed.tolist(), 1) if detector.update(score)), after)


def _mean_with_bound(lengths: list[int]) -> dict[str, Any]:
    mean, error = float(np.mean(lengths)), float(np.std(lengths, ddof=1) / np.sqrt(len(lengths)))
    cut = sum(length == LONGEST for length in lengths)
    return {"mean": mean, "lower95": mean - 1.645 * error, "runs": len(lengths), "cut_off": cut}


def option_signals_power(bench: Bench) -> list[dict[str, Any]]:
    """ARC-Easy → ARC-Challenge with the model's option signals, and what undrifted windows give."""
    measured = {task: signals(task, bench.seed, bench.progress) for task in ARC}
    sha256 = measured[ARC[0]][1]
    assert bench.references[ARC[0]].judged_by == sha256, "the shipped signals are another model's"
    known, rows = KnownTasks(bench.references), []
    count = max(20, bench.windows // 4)
    for n in SIZES[1:]:
        for origin in (ARC[1], ARC[0]):
            hits: dict[str, list[bool]] = {"prompts alone": [], "signals alone": [], "together": []}
            for i in range(count):
                chosen = torch.from_numpy(bench.rng.choice(len(measured[origin][0]), n, replace=False))
                window, asked = bench.pool[origin].embeddings[chosen], measured[origin][0][chosen]
                task = ARC[0]
                apart, logs = known.distances_to(window, (task,)), known.log_probabilities(window)
                it = compare(known, window, apart, logs, asked, permutations=PERMUTATIONS, seed=i)[task]
                for name, p in (
                    ("prompts alone", it.p_prompts),
                    ("signals alone", it.p_signals),
                    ("together", it.p_value),
                ):
                    hits[name].append(_given(p) <= LEVELS[0])
            rows += [{"n": n, "origin": origin, "test": name, **rate(found)} for name, found in hits.items()]
    return rows


def speed(bench: Bench, n: int = 32, repeats: int = 15) -> list[dict[str, Any]]:
    """Encoding a window and reporting on it, over encoding it; paired, the median of the repeats."""
    known, rows = KnownTasks(bench.references), []
    encoder = Encoder(minilm_folder())
    for task in IN_DOMAIN:
        bench.progress(f"speed on {task}", 0, 1)
        ratios, encoding = [], []
        for i in range(repeats + 1):
            prompts = [bench.pool[task].prompts[row] for _, row in _rows(bench, task, n)]
            started = time.perf_counter()
            window = encoder.embed(prompts)
            encoded = time.perf_counter()
            detect_drift(prompts, window, known, encoder=encoder, seed=i)
            ended = time.perf_counter()
            encoder.forget()
            if i:  # the first loads and fits
                ratios.append((ended - started) / (encoded - started))
                encoding.append(encoded - started)
        row = {"task": task, "ratio": float(np.median(ratios)), "p90": float(np.quantile(ratios, 0.9))}
        rows.append(row | {"encoding_s": float(np.median(encoding)), "repeats": repeats})
    return rows


STEPS: dict[str, Callable[[Bench], Any]] = {
    "speed": speed,
    "false_alarms": false_alarms,
    "redrawn": redrawn_references,
    "power": power,
    "kinds": kinds,
    "nearest": nearest,
    "stream": stream,
    "signals": option_signals_power,
}

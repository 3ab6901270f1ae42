"""What is reported on a window: its kind of drift, the nearest known task, option signals, and how fast."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from eval.drift.prompts import UNKNOWN, signals
from eval.drift.results import Kinds, Nearest, Signals, Speed
from eval.drift.windows import ARC, LEVELS, PERMUTATIONS, SIZES, Windows, made, share
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.reference import IN_DOMAIN
from tools.detect_drift.two_sample import compare
from tools.detect_drift.verdict import nearest_of


def kinds(windows: Windows, n: int = 32) -> Kinds:
    """What kind of drift is reported for windows of four origins, one task being current."""
    count = max(6, windows.count // 10)
    origins: dict[str, Callable[[str], list[tuple[str, int]]]] = {
        "no drift": lambda task: [(task, n)],
        "another known task": lambda task: [(windows.rng.choice([t for t in IN_DOMAIN if t != task]), n)],
        "an unknown task": lambda _: [(windows.rng.choice(UNKNOWN), n)],
        "25 % from a known task": lambda task: [
            (task, n - n // 4),
            (windows.rng.choice([t for t in IN_DOMAIN if t != task]), n // 4),
        ],
    }
    shares: Kinds = {}
    for origin, parts in origins.items():
        windows.progress(f"kinds: {origin}", 0, 1)
        reported = []
        for i in range(count):
            task = IN_DOMAIN[i % len(IN_DOMAIN)]
            chosen = [(pool, row) for name, size in parts(task) for pool, row in windows.rows(name, size)]
            prompts = [pool.prompts[row] for pool, row in chosen]
            window = torch.stack([pool.embeddings[row] for pool, row in chosen])
            known = KnownTasks(windows.references, (task,))
            reported.append(detect_drift(prompts, window, known, seed=i).kind)
        shares[origin] = {kind: reported.count(kind) / count for kind in sorted(set(reported))}
    return shares


def nearest(windows: Windows) -> list[Nearest]:
    """How often the nearest known task is the right one."""
    rows = []
    for names in (tuple(name for name in IN_DOMAIN if name != "arc_challenge"), IN_DOMAIN):
        known = KnownTasks({name: windows.references[name] for name in names})
        count = -(-windows.count // len(names))
        for n in (1, 4, 8, 32):
            hits = [_nearest(known, windows.draw(name, n)) == name for name in names for _ in range(count)]
            rows.append(Nearest(tasks=len(names), n=n, **dict(share(hits))))
    return rows


def _nearest(known: KnownTasks, window: Tensor) -> str:
    apart, logs = known.distances_to(window), known.log_probabilities(window)
    return nearest_of(compare(known, window, apart, logs, None, permutations=0, seed=0), known.names)


def option_signals_power(windows: Windows) -> list[Signals]:
    """ARC-Easy → ARC-Challenge with the model's option signals, and what undrifted windows give."""
    measured = {task: signals(task, windows.seed, windows.progress) for task in ARC}
    sha256 = measured[ARC[0]][1]
    assert windows.references[ARC[0]].judged_by == sha256, "the shipped signals are another model's"
    known, rows = KnownTasks(windows.references), list[Signals]()
    count = max(20, windows.count // 4)
    for n in SIZES[1:]:
        for origin in (ARC[1], ARC[0]):
            hits: dict[str, list[bool]] = {"prompts alone": [], "signals alone": [], "together": []}
            for i in range(count):
                chosen = torch.from_numpy(windows.rng.choice(len(measured[origin][0]), n, replace=False))
                window, asked = windows.pool[origin].embeddings[chosen], measured[origin][0][chosen]
                task = ARC[0]
                apart, logs = known.distances_to(window, (task,)), known.log_probabilities(window)
                evidence = compare(known, window, apart, logs, asked, permutations=PERMUTATIONS, seed=i)[task]
                for name, p in (
                    ("prompts alone", evidence.p_prompts),
                    ("signals alone", evidence.p_signals),
                    ("together", evidence.p_value),
                ):
                    hits[name].append(made(p) <= LEVELS[0])
            rows += [Signals(n=n, origin=origin, test=name, **dict(share(each))) for name, each in hits.items()]
    return rows


def speed(windows: Windows, n: int = 32, repeats: int = 15) -> list[Speed]:
    """Encoding a window and reporting on it, over encoding it; paired, the median of the repeats."""
    known, rows = KnownTasks(windows.references), []
    encoder = Encoder(minilm_folder())
    for task in IN_DOMAIN:
        windows.progress(f"speed on {task}", 0, 1)
        ratios, encoding = [], []
        for i in range(repeats + 1):
            prompts = [windows.pool[task].prompts[row] for _, row in windows.rows(task, n)]
            started = time.perf_counter()
            window = encoder.embed(prompts)
            encoded = time.perf_counter()
            detect_drift(prompts, window, known, encoder=encoder, seed=i)
            ended = time.perf_counter()
            encoder.forget()
            if i:  # the first loads and fits
                ratios.append((ended - started) / (encoded - started))
                encoding.append(encoded - started)
        rows.append(
            Speed(
                task=task,
                ratio=float(np.median(ratios)),
                p90=float(np.quantile(ratios, 0.9)),
                encoding_s=float(np.median(encoding)),
                repeats=repeats,
            )
        )
    return rows

"""How often windows are rejected: undrifted ones, and those that wholly or partly come from elsewhere."""

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import torch

from eval.drift.prompts import UNKNOWN
from eval.drift.results import TESTS, FalseAlarms, Power, WorstPair
from eval.drift.windows import ARC, LEVELS, SIZES, PValues, Windows, share
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.reference import IN_DOMAIN, REFERENCE_PROMPTS


def false_alarms(windows: Windows) -> list[FalseAlarms]:
    """Windows of a task against its shipped reference: pooled over the tasks, and the range over them."""
    known, rows = KnownTasks(windows.references), list[FalseAlarms]()
    for n in SIZES:
        p_values: dict[str, list[PValues]] = {}
        for done, task in enumerate(IN_DOMAIN):
            windows.progress(f"false alarms, windows of {n}", done, len(IN_DOMAIN))
            count = -(-windows.count // len(IN_DOMAIN))
            p_values[task] = [windows.p_values(known, task, windows.draw(task, n)) for _ in range(count)]
        rows += _false_alarms(n, p_values)
    return rows


def redrawn_references(windows: Windows) -> list[FalseAlarms]:
    """The same with references drawn anew from the pools, the rest of which gives the windows."""
    draws, each = max(2, windows.count // 120), 20
    p_values: dict[int, dict[str, list[PValues]]] = {n: {} for n in SIZES}
    for draw in range(draws):
        windows.progress("false alarms with redrawn references", draw, draws)
        references, rest = {}, {}
        for task in IN_DOMAIN:
            rows = windows.pool[task].embeddings
            order = torch.from_numpy(windows.rng.permutation(len(rows)))
            size = min(REFERENCE_PROMPTS, int(0.6 * len(rows)))
            references[task], rest[task] = Reference(rows[order[:size]]), rows[order[size:]]
        known = KnownTasks(references)
        for n in SIZES:
            for task in IN_DOMAIN:
                rows = rest[task]
                drawn = [rows[torch.from_numpy(windows.rng.choice(len(rows), n, False))] for _ in range(each)]
                p_values[n][f"{task} {draw}"] = [windows.p_values(known, task, window) for window in drawn]
    return [row for n in SIZES for row in _false_alarms(n, p_values[n])]


def _false_alarms(n: int, p_values: Mapping[str, list[PValues]]) -> list[FalseAlarms]:
    rows = []
    for level in LEVELS:
        for test in TESTS:
            each = {name: [p[test] <= level for p in several] for name, several in p_values.items()}
            shares = [float(np.mean(hits)) for hits in each.values()]
            pooled = share([hit for hits in each.values() for hit in hits])
            rows.append(FalseAlarms(n=n, level=level, test=test, **dict(pooled), range=(min(shares), max(shares))))
    return rows


def power(windows: Windows) -> list[Power]:
    """Windows that wholly or partly come from elsewhere: mean over the pairs of tasks, and the worst pair."""
    known, rows = KnownTasks(windows.references), list[Power]()
    inside = list(permutations(IN_DOMAIN, 2))
    outside = [(task, source) for task in IN_DOMAIN for source in UNKNOWN]
    for mixed, pairs in ((1.0, inside + outside), (0.25, inside), (0.1, inside)):
        count = -(-windows.count // len(pairs))
        for n in SIZES:
            windows.progress(f"power, {mixed:.0%} from elsewhere, windows of {n}", 0, 1)
            alien = max(1, round(mixed * n))
            p_values = {}
            for task, source in pairs:
                drawn = [torch.cat([windows.draw(task, n - alien), windows.draw(source, alien)]) for _ in range(count)]
                p_values[task, source] = [windows.p_values(known, task, window) for window in drawn]
            rows += _power(mixed, n, p_values)
    return rows


def _power(mixed: float, n: int, p_values: Mapping[tuple[str, str], list[PValues]]) -> list[Power]:
    rows = []
    for level in LEVELS:
        for test in TESTS:
            each = {pair: [p[test] <= level for p in several] for pair, several in p_values.items()}
            others = {pair: hits for pair, hits in each.items() if pair != ARC}
            shares = {pair: float(np.mean(hits)) for pair, hits in others.items()}
            worst = min(shares, key=lambda pair: shares[pair])
            rows.append(
                Power(
                    share=mixed,
                    n=n,
                    level=level,
                    test=test,
                    **dict(share([hit for hits in others.values() for hit in hits])),
                    worst=WorstPair(pair=worst, **dict(share(others[worst]))),
                    below=tuple((*pair, rate) for pair, rate in shares.items() if rate < 0.95),
                    pairs=len(others),
                    arc=share(each[ARC]),
                )
            )
    return rows

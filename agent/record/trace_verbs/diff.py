"""What differs between two runs, and how ``python -m agent.trace diff`` shows it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypedDict

from rich.text import Text

from agent.record.measurements import GENERATED, StartName
from agent.record.schema import Computed, Run
from agent.record.trace_verbs.view import empty_table, from_to, open_console
from agent.record.wording import duration, flatten, number, outcome, p_text, proposal, signed
from cao.encodings import visible

Unequal = Mapping[str, Sequence[object]]
"""Name to the two runs' values, where these differ."""


class TrialPair(TypedDict):
    """An attempt of both runs in words, None where a run has none."""

    attempt: int
    same: bool
    runs: list[str | None]


class Differences(TypedDict):
    """What differs between two runs, and their measures side by side."""

    runs: list[str]
    config: Unequal
    versions: Unequal
    compute: Unequal
    trials: list[TrialPair]
    measures: Unequal


def differences(first: Run, second: Run) -> Differences:
    """Return what differs between two runs: configuration, versions, attempts, and the measures side by side."""
    pair = (first, second)
    return {
        "runs": [run.run_id for run in pair],
        "config": _unequal(*(flatten(run.config) for run in pair)),
        "versions": _unequal(*(dict(run.versions) for run in pair)),
        "compute": _computed(first.compute, second.compute),
        "trials": [
            {"attempt": i + 1, "same": cells[0] == cells[1], "runs": cells}
            for i in range(max(len(run.trials) for run in pair))
            for cells in [[_trial_cell(run, i) for run in pair]]
        ],
        "measures": _measures(first, second),
    }


def show_diff(first: Run, second: Run) -> None:
    """Print what differs between two runs."""
    changes, console = differences(first, second), open_console()
    for title, rows in (
        ("configuration", changes["config"]),
        ("versions", changes["versions"]),
        ("computed with", changes["compute"]),
        ("measures", changes["measures"]),
    ):
        if not rows:
            console.print(Text(f"{title}: no difference"))
            continue
        table = empty_table(title, first.run_id, second.run_id)
        for name, values in rows.items():
            table.add_row(*(Text(visible("—" if cell is None else cell)) for cell in (name, *values)))
        console.print(table)
    if changes["compute"]:
        changed = ", ".join(changes["compute"])
        console.print(Text(f"Computed with another {changed}: the last digits of scores may differ."))
    table = empty_table(">attempt", first.run_id, second.run_id)
    for row in changes["trials"]:
        style = "dim" if row["same"] else ""
        table.add_row(*(Text(str(cell or "—"), style) for cell in (row["attempt"], *row["runs"])))
    if changes["trials"]:
        console.print(table)


def _computed(first: Computed | None, second: Computed | None) -> Unequal:
    """Return what of that which decides how numbers are rounded differs; nothing where a run does not say it."""
    if first is None or second is None:
        return {}
    rounding = {"dtype", "device", "threads", "processor"}
    return _unequal(first.model_dump(include=rounding), second.model_dump(include=rounding))


def _measures(first: Run, second: Run) -> dict[str, list[str | None]]:
    rows: dict[str, list[str | None]] = {}
    for run in (first, second):
        base, best, test = run.reward.baseline, run.reward.best, run.test
        cells = {
            "status": run.status,
            "start": run.reward.start if base else None,
            "generator": (run.adapters.variant if run.adapters else None) or "—",
            **{f"{name} adapter": _start_cell(run, name) for name in GENERATED},
            "reward accuracy": from_to(base.score if base else None, best.score if best else None),
            "reward log-loss": f"{number(base.loss if base else None)} → {number(best.loss if best else None)}",
            "test accuracy": from_to(test.baseline.accuracy, test.adapted.accuracy) if test else None,
            "test p-value": p_text(test.p_value) if test else None,
            "drift": f"{run.drift.kind}, nearest {run.drift.nearest_task}" if run.drift else None,
            "time": duration(run.seconds),
        }
        for name, cell in cells.items():
            rows.setdefault(name, []).append(cell)
    return rows


def _start_cell(run: Run, name: StartName) -> str | None:
    base, after = run.reward.baseline, run.reward.dropped_after.get(name)
    if after is not None:
        return f"dropped after {after}"
    measured = run.reward.starts().get(name)
    return from_to(base.score if base else None, measured.score) if measured else None


def _trial_cell(run: Run, index: int) -> str | None:
    if index >= len(run.trials):
        return None
    trial = run.trials[index]
    comparison = trial.comparison
    measured = f": log-loss {signed(comparison.loss_change)}" if comparison else ""
    return f"{proposal(trial.strategy, trial.raw)} {outcome(trial)}{measured}"


def _unequal(first: Mapping[str, object], second: Mapping[str, object]) -> Unequal:
    keys = Counter([*first, *second])
    return {key: [first.get(key), second.get(key)] for key in keys if first.get(key) != second.get(key)}

"""What a fork changes, and from which step on that matters; nothing that computes is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.config import RunConfig, make_config
from agent.loop.request import Request, RunHeader, read_stored, refuse_changes, understand
from agent.record.runs import find_run
from agent.record.trace_file import Event, read_trace, visits
from agent.record.wording import flatten, one_line
from cao.errors import InputError

FIRST, LOOP = "describe", "decide"
"""The graph's first node, and the loop's."""
OF_THE_LOOP = ("policy", "policy_sees_drift", "max_attempts", "until", "serving_price")
"""Keys that nothing before the loop reads."""
OF_THE_POLICY = "policy_settings"
"""A table that the describer reads too, where it asks a model."""


@dataclass(frozen=True)
class Fork:
    """A new run with an old one's configuration, changed.

    Attributes:
        source: the old run's folder; it stays as it is.
        stored: what its ``config.json`` holds.
        asked: the new run, as ``python -m agent.run`` would be asked for it.
        changed: key → its values before and after.
        node: the step that the new run begins with; what lies before it is the old run's.
    """

    source: Path
    stored: RunHeader
    asked: Request
    changed: Mapping[str, tuple[object, object]]
    node: str

    def sentence(self) -> str:
        """Return what is changed and which steps are kept."""
        told = ", ".join(f"{key} {before!r} → {after!r}" for key, (before, after) in self.changed.items())
        kept = (
            "begun anew" if self.node == FIRST else f"its steps before {self.node} are kept, as nothing in them changes"
        )
        return one_line(f"fork of {self.source.name}: {told}; {kept}", 600)


def plan_fork(out: Path, run_id: str, assignments: list[str]) -> Fork:
    """Return the run that ``--set`` makes of an old one.

    Args:
        out: the folder of runs.
        run_id: the old run.
        assignments: the ``--set`` texts.

    Raises:
        InputError: the old run cannot be read, a value is impossible, or nothing would change.
    """
    source, stored = find_run(out, run_id), read_stored(out, run_id)
    values = {**stored.config, "out": str(out)}
    before = make_config(None, values, [])
    asked = understand(values, assignments=assignments)
    old, new = (flatten(config.model_dump(mode="json")) for config in (before, asked.config))
    changed = {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}
    if not changed:
        raise InputError(f"run {source.name} had these values already; --set key=value changes one")
    events = read_trace(source)
    kept = _is_of_the_loop(before, asked.config, events) and _came_to_the_loop(source, stored, before, events)
    node = LOOP if kept else FIRST
    asked = replace(asked, forked={"run_id": source.name, "node": node})
    return Fork(source, stored, asked, changed, node)


def _is_of_the_loop(before: RunConfig, after: RunConfig, events: list[Event]) -> bool:
    """Return whether nothing before the loop could differ between two configurations, of which one made the events."""
    if before.minutes is not None or after.minutes is not None:  # the clock of a run that begins later is another one
        return False
    asked = any((event["node"], event["event"]) == (FIRST, "call") for event in events)
    late = {*OF_THE_LOOP, *((OF_THE_POLICY,) if before.describer == "cached" and not asked else ())}
    return before.model_dump(exclude=late) == after.model_dump(exclude=late)


def _came_to_the_loop(source: Path, stored: RunHeader, config: RunConfig, events: list[Event]) -> bool:
    """Return whether a run has steps that can be kept: its data is what it was, and its loop began."""
    try:
        refuse_changes(stored, config)
    except InputError:
        return False
    return LOOP in visits(events) and (source / "checkpoints.sqlite").is_file()

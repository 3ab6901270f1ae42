"""What a fork changes, and from which step on that matters; nothing that computes is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.config import RunConfig, make_config
from agent.loop.request import Request, RunHeader, read_stored, refuse_changes, understand
from agent.record.runs import find_run
from agent.record.trace_file import Event, read_trace, visits
from agent.record.wording import flatten, one_line
from cao.configuration import assigned
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
        anew: why no step of the old run is kept; empty where some are.
    """

    source: Path
    stored: RunHeader
    asked: Request
    changed: Mapping[str, tuple[object, object]]
    anew: str

    @property
    def node(self) -> str:
        """The step that the new run begins with; what lies before it is the old run's."""
        return FIRST if self.anew else LOOP

    def sentence(self) -> str:
        """Return what is changed and which steps are kept."""
        told = ", ".join(f"{key} {before!r} → {after!r}" for key, (before, after) in self.changed.items())
        before = f"its steps before {self.node} are kept, as nothing in them changes"
        kept = f"begun anew: {self.anew}" if self.anew else before
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
    anew = _differs_early(before, asked.config, events) or _lacks_steps(source, stored, before, events)
    config = asked.config
    if anew and stored.dtype_asked and "dtype" not in assigned(assignments):
        config = config.model_copy(update={"dtype": stored.dtype_asked})  # what was asked for, and not what came of it
    fork = Fork(source, stored, asked, changed, anew)
    return replace(fork, asked=replace(asked, config=config, forked={"run_id": source.name, "node": fork.node}))


def _differs_early(before: RunConfig, after: RunConfig, events: list[Event]) -> str:
    """Return what could differ before the loop between two configurations, of which one made the events; or nothing."""
    if before.minutes is not None or after.minutes is not None:
        return "the clock of a time budget starts again"
    asked = any((event["node"], event["event"]) == (FIRST, "call") for event in events)
    late = {*OF_THE_LOOP, *((OF_THE_POLICY,) if before.describer == "cached" and not asked else ())}
    old, new = before.model_dump(exclude=late), after.model_dump(exclude=late)
    early = [key for key in new if old[key] != new[key]]
    return f"a step before {LOOP} reads {' and '.join(early)}" if early else ""


def _lacks_steps(source: Path, stored: RunHeader, config: RunConfig, events: list[Event]) -> str:
    """Return why a run has no steps that can be kept, empty where its data is what it was and its loop began."""
    try:
        refuse_changes(stored, config)
    except InputError as error:
        return str(error).partition(";")[0]
    if LOOP not in visits(events):
        return f"the old run did not come to {LOOP}"
    return "" if (source / "checkpoints.sqlite").is_file() else "the old run's checkpoints are gone"

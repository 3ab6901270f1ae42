"""The events of a watched stream in words."""

from pathlib import Path

from agent.record.commands import trace_command
from agent.record.wording import count
from agent.stream.state import Event
from tools.detect_drift.wording import NOT_IDENTIFIABLE


def words(event: Event, folder: Path) -> str:
    """Return an event as one line that a person understands.

    Args:
        event: the event.
        folder: of the watch; its paths are relative to it.
    """
    kind = event["event"]
    if kind == "start":
        return f"watching for prompts that are not from {', '.join(event['expected'])}"
    if kind == "alarm":
        return f"ALARM at prompt {event['prompt']}; the change may have begun at prompt {event['since']}"
    if kind == "window":
        report = event["report"]
        caveats = report["caveats"]
        assert isinstance(caveats, list), caveats
        told = [report["sentence"], *(caveat for caveat in caveats if caveat != NOT_IDENTIFIABLE)]
        return f"the {report['n']} prompts behind it: " + ". ".join(map(str, told))
    if kind == "new_task":
        return f"they are known from now on as {event['task']} ({event['prompts']} prompts)"
    if kind == "thinned":
        return thinned(event["every"], holds=event["holds"])
    if kind == "no_change":
        return "nothing to change: the same tasks are expected as before"
    if kind == "expect":
        return f"expecting {', '.join(event['tasks'])} from now on"
    if kind == "adapter":
        used = folder / (event["adapter"] or f"{event['run']}/strategy.json")
        line = f"deployed for {event['task']}: {used} ({'stored' if event['stored'] else event['told']})"
        run = folder / event["run"] if event["run"] else None
        return f"{line}; {trace_command('show', run.parent, run.name)}" if run else line
    if kind == "not_adapted":
        return f"no adapter for {event['task']}: {event['reason']}"
    if kind == "skipped":
        so_far = f" ({event['count']} such lines so far)" if event["count"] > 1 else ""
        return f"line {event['line']} skipped: {event['reason']}{so_far}"
    lost = f", of which could not be read: {unreadable(event['unreadable'])}" if event["unreadable"] else ""
    seen = f"{count(event['prompts'], 'prompt')}, {count(event['alarms'], 'alarm')}, {event['skipped']} skipped"
    return f"the stream ended: {seen}{lost}"


def thinned(every: int, *, holds: bool) -> str:
    """Return how neighbouring prompts are dealt with from now on.

    Args:
        every: one prompt in so many is judged.
        holds: whether the promised run length holds then.
    """
    if every == 1:
        return "neighbouring prompts do not resemble each other: every prompt is judged from now on"
    note = f"neighbouring prompts resemble each other: one in {every} is judged from now on"
    if holds:
        return f"{note}; --run-length holds if prompts {every} apart are independent"
    return f"{note}; those that are left may still resemble each other, so --run-length is not promised for this stream"


def unreadable(reasons: dict[str, int]) -> str:
    """Return how many lines could not be read, for each reason."""
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.items())

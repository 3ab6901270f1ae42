"""What a run cost, and what its result costs to serve, in words."""

from collections.abc import Sequence

from agent.record.events import evaluations_text
from agent.record.gains import folder_alone, made_anew
from agent.record.schema import Run
from agent.record.trace_file import Event
from agent.record.wording import count, duration, number, percent

KINDS = {
    "measuring": ("choose", "evaluate", "conclude"),
    "deciding": ("describe", "decide"),
    "detecting drift": ("detect",),
    "making adapters": ("generate", "align", "apply"),
}
"""What the nodes' time went to."""
REMOTE = "openai"
ASKERS = {"describe": ("describer", "the describer"), "decide": ("policy", "the policy")}
"""Node → who asks in it, as run.json's ``request_forms`` and as people call it."""


def cost_rows(run: Run, events: Sequence[Event]) -> list[tuple[str, str]]:
    """Return what a run cost: a name and a sentence each.

    Args:
        run: the run.
        events: its trace.
    """
    rows = [("Time", time_text(run))]
    if counted := evaluations_text(run):
        rows.append(("Reward questions", counted))
    if run.test and run.test.baseline.n:
        rows.append(("Test questions", f"{run.test.baseline.n}, read once, by each model on the way."))
    if run.peak_memory_mb:
        rows.append(("Memory", f"{number(run.peak_memory_mb / 1024, 2)} GB at most in the run's last process."))
    asked = [name for node, (who, name) in ASKERS.items() if _asked(run, events, node, who)]
    sent = f"{' and '.join(asked).capitalize()} asked a server; it bills its tokens." if asked else ""
    rows.append(("Servers", sent or "None was asked."))
    if run.test:
        rows.append(("A question, served", serving_text(run)))
    return rows


def _asked(run: Run, events: Sequence[Event], node: str, who: str) -> bool:
    """Return whether a server was asked in a node: by its calls, or by the form that the server took.

    A fork has the form of the run that it began from, so the node must be one of its own. A finished run from before
    there were forms says by names alone who may have asked.
    """
    mine = [event for event in events if event["node"] == node]
    if any(event["event"] == "call" and (event.get("data") or {}).get("provider") == REMOTE for event in mine):
        return True
    if who in run.request_forms or run.finished is None:
        return bool(mine) and run.request_forms.get(who) is not None
    return bool(getattr(run, who) == REMOTE)


def time_text(run: Run) -> str:
    """Return how long a run took, and what for."""
    total = sum(run.timing_s.values())
    if total <= 0:
        return "No step has ended yet."
    spent = {kind: sum(run.timing_s.get(node, 0.0) for node in nodes) for kind, nodes in KINDS.items()}
    parts = [f"{kind} {percent(s / total, 0)}" for kind, s in sorted(spent.items(), key=lambda e: -e[1]) if s > 0]
    told = f"{duration(run.seconds or total)}{': ' if parts else ''}{', '.join(parts)}."
    if run.overhead_share is not None:
        share = percent(run.overhead_share, 2)
        told += f" The graph, its checkpoints and the trace took {share} of the time of the run's last process."
    return told


def serving_text(run: Run) -> str:
    """Return what a question costs where the result is served."""
    adopted = run.adopted
    if adopted is None:
        return "What it cost before: nothing was adopted."
    latent = (
        f", and {count(adopted.latent.slot_steps, 'step')} of Latent on its hidden states" if adopted.latent else ""
    )
    together = adopted.together
    if together and together.routes:
        return f"It goes to one of {count(len(together.adapters), 'adapter')} by its embedding{latent}."
    if together:
        return f"A forward pass of each of {count(len(together.adapters), 'adapter')}, which answer together{latent}."
    merged = "; merged into the weights the adapter costs nothing" if folder_alone(run) else ""
    if made_anew(adopted):
        merged = "; other questions than this run's first have a model trained on them"
    return f"One forward pass{latent}{merged}."

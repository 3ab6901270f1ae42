"""What a run cost, and what its result costs to serve, in words."""

from agent.record.events import evaluations_text
from agent.record.schema import Adopted, Run
from agent.record.wording import count, duration, number, percent

KINDS = {
    "measuring": ("choose", "evaluate", "conclude"),
    "deciding": ("describe", "decide"),
    "detecting drift": ("detect",),
    "making adapters": ("generate", "align", "apply"),
}
"""What the nodes' time went to."""
REMOTE = "openai"


def cost_rows(run: Run) -> list[tuple[str, str]]:
    """Return what a run cost: a name and a sentence each."""
    rows = [("Time", time_text(run))]
    if counted := evaluations_text(run):
        rows.append(("Reward questions", counted))
    if run.test and run.test.baseline.n:
        rows.append(("Test questions", f"{run.test.baseline.n}, read once, by each model on the way."))
    if run.peak_memory_mb:
        rows.append(("Memory", f"{number(run.peak_memory_mb / 1024, 2)} GB at most in the run's last process."))
    asked = [who for who, name in (("the describer", run.describer), ("the policy", run.policy)) if name == REMOTE]
    sent = f"{' and '.join(asked).capitalize()} asked a server; it bills its tokens." if asked else ""
    rows.append(("Servers", sent or "None was asked."))
    if run.test:
        rows.append(("A question, served", serving_text(run.adopted)))
    return rows


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
        told += f" The graph, its checkpoints and the trace took {share} of the run's time."
    return told


def serving_text(adopted: Adopted | None) -> str:
    """Return what a question costs where the result is served."""
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
    merged = "; merged into the weights the adapter costs nothing" if adopted.adapter else ""
    return f"One forward pass{latent}{merged}."

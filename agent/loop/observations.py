"""What the policy is told: τ, what stands and was tried, and measurements from before the loop in one sentence each.

Source: CAO-LLM §2.4 for τ; the measurements are beyond it.
"""

import statistics
from pathlib import Path

from agent.loop.state import Starts, State, Workbench
from agent.record.events import Start
from agent.record.schema import GENERATED, StartName
from cao.model.adapters import load_adapter
from cao.types import AdapterRef, Reward
from policies.base import PolicyContext
from tools.apply_strategy import applicable, ttl
from tools.apply_strategy.ttl_loss import PERPLEXITY_THRESHOLD


def policy_context(state: State, bench: Workbench) -> PolicyContext:
    """Return what the policy sees: τ, the model's reward as it stands, what can act now, and the attempts so far."""
    reasons = applicable(bench.standing(bench.adapted(state["best"])))
    return PolicyContext(
        task=bench.task.name,
        task_context=state["context"].text,
        baseline=Reward.model_validate(state["best_reward"]),
        families=tuple(name for name, reason in reasons.items() if reason is None),
        unavailable={name: reason for name, reason in reasons.items() if reason is not None},
        history=tuple(state["trials"]),
        drift=state["drift"].sentence if bench.config.policy_sees_drift else "",
        measured=tuple(state["observed"]),
    )


def observe(bench: Workbench, start: StartName, starts: Starts, adapter: AdapterRef | None) -> list[str]:
    """Return the sentences.

    Args:
        bench: the workbench.
        start: what the loop starts from: ``base``, ``generated`` or ``aligned``.
        starts: name → what was measured of it, or None.
        adapter: that of the start.
    """
    told = [adapter_sentence(name, begun, chosen=name == start) for name in GENERATED if (begun := starts[name])]
    weights = load_adapter(Path(adapter.path), bench.lm.sha256) if adapter else None
    found = sorted(ttl.perplexities(bench.lm, bench.prompts(), weights))
    if found:
        tenth = len(found) // 10
        passed = sum(value > PERPLEXITY_THRESHOLD for value in found)
        told.append(
            f"The perplexity of the task's own questions is {statistics.median(found):.0f} in the middle, "
            f"{found[tenth]:.0f} to {found[-1 - tenth]:.0f} for most; {passed} of {len(found)} are above TTL's "
            f"threshold of {PERPLEXITY_THRESHOLD:.0f}."
        )
    return told


def adapter_sentence(name: str, measured: Start, *, chosen: bool) -> str:
    """Return what the policy is told about a generated adapter: its change, and whether it is carried."""
    change, after = measured["comparison"], measured["dropped_after"]
    if change is None:
        return f"The {name} adapter gives no usable answers."
    use = "the current model carries it" if chosen else "the current model does not carry it"
    where = "" if after is None else f" on the first {after} reward questions, after which it was dropped"
    return (
        f"The {name} adapter changes the deployed model's accuracy by {100 * change.accuracy_change:+.1f} points and "
        f"its log-loss by {change.loss_change:+.4f}{where}; {use}."
    )

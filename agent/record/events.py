"""What a node's end means, in one sentence, and what measuring cost; the terminal and the trace share it."""

from typing import Any

from agent.record.schema import GENERATED, RunRecord
from agent.record.wording import START_NAMES, count, number, percent
from cao.strategy import strategy_text


def sentence(node: str, data: dict[str, Any]) -> str:
    """Return one sentence about a node's outcome.

    Args:
        node: the node's name.
        data: the ``data`` object of its ``end`` event.
    """
    if node == "describe":
        context = data["context"]
        return f"task context by {context['source']}: {_cut(context['text'], 80)}"
    if node == "detect":
        return str(data["drift"]["sentence"]) + ("; nothing is to be adapted to" if data.get("ended") else "")
    if node in ("generate", "align"):
        return _adapter(node, data.get("adapters", {}))
    if "trial" in data:
        trial = data["trial"]
        what = strategy_text(trial["strategy"]) if trial["strategy"] else repr(_cut(trial["raw"], 60))
        return f"attempt {trial['attempt']}: {what} → {trial['reason']}"
    if node == "decide" and data.get("out_of_time"):
        return "the time budget leaves no room for another attempt"
    if node == "decide":
        return f"proposes {strategy_text(data['proposal'])}"
    if node == "apply":
        return str(data.get("applied", ""))
    if "baseline" in data:
        return _start(data)
    if "test" in data:
        test = data["test"]
        pair = f"{100 * test['baseline']['accuracy']:.1f} % → {100 * test['adapted']['accuracy']:.1f} %"
        return f"{data['status']}: test accuracy {pair}"
    return ""


def evaluations_text(run: RunRecord) -> str:
    """Return how many reward questions were answered and how many were saved; empty where the run does not say."""
    counts = run.evaluations
    if counts is None or counts.asked <= 0:
        return ""
    told = f"All {counts.asked} reward questions of the measurements were answered"
    if counts.saved:
        share = percent(counts.saved / counts.asked, 0)
        told = f"{counts.answered} of {counts.asked} reward questions were answered, {share} saved"
    told += f"; {_dropped(run, counts.dropped_early)} dropped early."
    every = counts.member_answers + counts.member_answers_saved
    if every != counts.asked and every > 0:  # several adapters answered questions together
        share = percent(counts.member_answers_saved / every, 0)
        told += f" Adapter by adapter it was {counts.member_answers} of {every} answers, {share} saved."
    if counts.checked:
        told += f" Full evaluation agrees about {counts.agreed} of {counts.checked} dropped."
    if counts.reused:
        told += f" {counts.reused} answers came from kept scores or hidden states, without a forward pass."
    return told


def _dropped(run: RunRecord, early: int) -> str:
    """Say how many starts and how many attempts were dropped."""
    starts = sum(after is not None for after in run.reward.dropped_after.values())
    told = [(starts, "start"), (early - starts, "attempt")]
    return " and ".join(count(n, name) for n, name in told if n > 0) or "nothing was"


def _adapter(node: str, adapters: dict[str, Any]) -> str:
    """Say what came of generating or aligning, and by which trained generator."""
    made = adapters.get("generated" if node == "generate" else "aligned")
    if not made:
        nothing = node == "align" and not adapters.get("generated")
        return "nothing to align" if nothing else f"no adapter: {adapters.get('reason', '')}"
    told = f"adapter {made['sha256'][:12]}"
    if node == "align" or not adapters.get("variant"):
        return told
    saw = adapters.get("saw_task")
    seen = ", trained on this task too" if saw else ", never trained on this task" if saw is False else ""
    caveats = "".join(f"; {caveat}" for caveat in adapters.get("caveats", []))
    return f"{told} by generator “{adapters['variant']}”{seen}{caveats}"


def _start(data: dict[str, Any]) -> str:
    """Say what the loop starts from, and what it could have started from."""
    base, starts, chosen = data["baseline"], data.get("starts", {}), data.get("start", "base")
    told = {"deployed model": _figures(base)}
    for name in GENERATED:
        start = starts.get(name) or {}
        after = start.get("dropped_after")
        if start.get("reward"):
            told[f"{name} adapter"] = _figures(start["reward"]) if after is None else f"dropped after {after}"
    if len(told) == 1:
        return f"start: {_figures(base)} on {base['n']} questions"
    each = "; ".join(f"{name} {figures}" for name, figures in told.items())
    return f"start: {START_NAMES[chosen]} (on {base['n']} questions: {each})"


def _figures(reward: dict[str, Any]) -> str:
    """Return what a model scored; no changes, so that one sentence has figures of one kind."""
    return f"accuracy {percent(reward['score'])}, log-loss {number(reward['loss'])}"


def _cut(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"

"""What a node's end means, in one sentence, and what measuring cost; the terminal and the trace share it."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, JsonValue
from typing_extensions import TypedDict  # typing's own has no JSON schema before Python 3.12

from agent.record.measurements import GENERATED, GeneratedName, StartName, TestPart
from agent.record.schema import Adapters, Run
from agent.record.wording import START_NAMES, count, number, percent
from cao.drift import DriftReport
from cao.strategy import strategy_text
from cao.types import Comparison, Reward, StrategyFields, Trial
from policies.describe import Description


class Start(TypedDict):
    """A generated adapter as the loop's start.

    Attributes:
        reward: what it scores, None where it could not be measured.
        comparison: with the deployed model, None where it could not be measured.
        dropped_after: questions that both speak of, where it was dropped before the last one.
    """

    reward: Reward | None
    comparison: Comparison | None
    dropped_after: int | None


class NodeEnd(BaseModel):
    """The data of a node's ``end`` event: what changed in the state, as far as a trace is read for it.

    Attributes:
        applied: what ``apply`` made, in words.
        trial: the attempt that ended.

    The other attributes are keys of the graph's state.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    context: Description | None = None
    drift: DriftReport | None = None
    adapters: Adapters = Adapters()
    baseline: Reward | None = None
    start: StartName = "base"
    starts: dict[GeneratedName, Start | None] = {}
    proposal: StrategyFields | None = None
    applied: str = ""
    trial: Trial | None = None
    status: str = ""
    test: TestPart | None = None
    ended: str | None = None
    out_of_time: bool = False


def sentence(node: str, data: Mapping[str, JsonValue]) -> str:
    """Return one sentence about a node's outcome.

    Args:
        node: the node's name.
        data: the ``data`` object of its ``end`` event.

    Raises:
        ValidationError: it is of another version.
    """
    end = NodeEnd.model_validate(data, extra="ignore")
    if node == "describe" and end.context:
        return f"task context by {end.context.source}: {_cut(end.context.text, 80)}"
    if node == "detect" and end.drift:
        return end.drift.sentence + ("; nothing is to be adapted to" if end.ended else "")
    if node in ("generate", "align"):
        return _adapter(node, end.adapters)
    if end.trial:
        what = strategy_text(end.trial.strategy) if end.trial.strategy else repr(_cut(end.trial.raw or "", 60))
        return f"attempt {end.trial.attempt}: {what} → {end.trial.reason}"
    if node in ("choose", "decide") and end.ended:
        return end.ended if node == "choose" else "nothing can be judged, so nothing is proposed"
    if node == "decide" and end.out_of_time:
        return "the time budget leaves no room for another attempt"
    if node == "decide" and end.proposal:
        return f"proposes {strategy_text(end.proposal)}"
    if node == "apply":
        return end.applied
    if end.baseline:
        return _start(end, end.baseline)
    if end.test:
        before, after = end.test.baseline, end.test.adapted
        told = f"{end.status}: test accuracy {100 * before.accuracy:.1f} % → {100 * after.accuracy:.1f} %"
        moved = before.accuracy == after.accuracy and before.loss != after.loss
        return f"{told}, log-loss {before.loss:.4f} → {after.loss:.4f}" if moved else told
    return ""


def evaluations_text(run: Run) -> str:
    """Return how many reward questions were answered and how many were saved; empty where the run does not say."""
    counts = run.evaluations
    if counts is None or counts.asked <= 0:
        return ""
    text = f"All {counts.asked} reward questions of the measurements were answered"
    if counts.saved:
        share = percent(counts.saved / counts.asked, 0)
        how = "" if counts.dropped_early else " by what was known already"
        text = f"{counts.answered} of {counts.asked} reward questions were answered, {share} saved{how}"
    text += f"; {_dropped(run, counts.dropped_early)} dropped early."
    every = counts.member_answers + counts.member_answers_saved
    if every != counts.asked and every > 0:  # several adapters answered questions together
        share = percent(counts.member_answers_saved / every, 0)
        text += f" Adapter by adapter it was {counts.member_answers} of {every} answers, {share} saved."
    if counts.checked:
        text += f" Full evaluation agrees about {counts.agreed} of {counts.checked} dropped."
    if counts.reused:
        text += f" {counts.reused} answers came from kept scores or hidden states, without a forward pass."
    return text


def _dropped(run: Run, early: int) -> str:
    """Say how many starts and how many attempts were dropped."""
    starts = sum(after is not None for after in run.reward.dropped_after.values())
    sizes = [(starts, "start"), (early - starts, "attempt")]
    return " and ".join(count(n, name) for n, name in sizes if n > 0) or "nothing was"


def _adapter(node: str, adapters: Adapters) -> str:
    """Say what came of generating or aligning, and by which trained generator."""
    made = adapters.generated if node == "generate" else adapters.aligned
    if made is None:
        return (
            "nothing to align" if node == "align" and adapters.generated is None else f"no adapter: {adapters.reason}"
        )
    text = f"adapter {made.sha256[:12]}"
    if node == "align" or not adapters.variant:
        return text
    seen = f", {adapters.seen}" if adapters.seen else ""
    caveats = "".join(f"; {caveat}" for caveat in adapters.caveats)
    return f"{text} by generator “{adapters.variant}”{seen}{caveats}"


def _start(end: NodeEnd, base: Reward) -> str:
    """Say what the loop starts from, and what it could have started from."""
    figures = {"deployed model": _figures(base)}
    for name in GENERATED:
        start = end.starts.get(name)
        if start and start["reward"]:
            after = start["dropped_after"]
            figures[f"{name} adapter"] = _figures(start["reward"]) if after is None else f"dropped after {after}"
    loss = f" and {number(base.uniform_loss)}" if base.uniform_loss else ""
    guess = f", guessing {percent(base.chance)}{loss}" if base.chance else ""
    if len(figures) == 1:
        return f"start: {_figures(base)} on {base.n} questions{guess}"
    each = "; ".join(f"{name} {figures}" for name, figures in figures.items())
    return f"start: {START_NAMES[end.start]} (on {base.n} questions{guess}: {each})"


def _figures(reward: Reward) -> str:
    """Return what a model scored; no changes, so that one sentence has figures of one kind."""
    at_chance = " (at chance)" if reward.at_chance else ""
    return f"accuracy {percent(reward.score)}, log-loss {number(reward.loss)}{at_chance}"


def _cut(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"

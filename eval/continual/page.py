"""The page of a stream of tasks, made from its figures alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eval.continual.picture import draw
from eval.continual.results import ARMS, Arm, ArmResult, ContinualResult, Stream
from eval.generation.bootstrap import interval
from eval.pages.markdown import table, with_interval
from eval.pages.writing import write_result, writing
from tools.evaluate.statistics import wilson

RESAMPLES = 2000
WORDS: dict[Arm, str] = {
    "never": "the base model answers to the end",
    "alarms": "`agent.watch --adapt`: an alarm, a window, a run of the graph; what was stored for a task that comes "
    "again is put back without a run",
    "last window": "LoRA on the labels of the last full window, from the base model anew, answers the next window",
}


def write_page(result: ContinualResult, folder: Path) -> Path:
    """Write ``continual.md``, ``continual.json`` and the pictures, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    with writing(folder):
        draw(result, folder)
    return write_result(result, page(result), folder, "continual")


def page(result: ContinualResult) -> str:
    """Return the page as Markdown."""
    first = result.streams[0]
    tasks, prompts = [segment.task for segment in first.segments], first.segments[0].prompts
    seeds = ", ".join(str(stream.seed) for stream in result.streams)
    arms = "\n".join(f"- **{arm}**: {WORDS[arm]}." for arm in ARMS)
    return f"""# A stream of tasks: {", ".join(tasks)}

Made on {result.measured} by

    {result.command}

{result.model} (sha256 {result.model_sha256[:12]}…), {result.dtype}, device {result.device}, {result.processor}; \
seeds {seeds}. {prompts} prompts a segment, deployed at first for {result.reference}; {result.window} prompts are \
collected behind an alarm, and as many labelled ones are the last window. Every prompt is answered by the model that \
is deployed when it comes; runs accept by the rule `{result.accept}`. {result.held} questions of each task are kept \
apart and answered at each segment's end. \
Questions come from the parts that nothing that ships was trained on, and are asked as a user's file is. Intervals are \
95 %: Wilson's, and a paired bootstrap over prompts for changes; with few seeds they say nothing of other streams.

{arms}

<picture><source media="(prefers-color-scheme: dark)" srcset="continual-dark.svg">\
<img src="continual.svg" alt="Accuracy over the stream, arm by arm"></picture>

## Over the whole stream

{table(["arm", "right", "change to never, points", "forgetting, points", "adapted", "put back"], _overall(result))}
Forgetting is, of the questions kept apart, the best accuracy that the deployed model had for a task at an earlier \
segment's end, less that at the stream's end; the mean over the tasks that came before the last. "Adapted" counts the \
models that were newly made and deployed, "put back" the stored ones.

## Segment by segment

{table(["segment", "n", "guessing", *ARMS], _segments(result))}
## Questions kept apart, at each segment's end

{table(["seed", "after", "arm", *result.chance], _held(result))}
## What was changed

{table(["seed", "arm", "from prompt", "what"], _steps(result))}"""


def _percent(right: Sequence[bool]) -> str:
    if not right:
        return "—"
    low, high = wilson(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _overall(result: ContinualResult) -> list[list[str]]:
    rows = []
    never = [right for stream in result.streams for right in stream.arms["never"].right]
    for arm in ARMS:
        mine = [right for stream in result.streams for right in stream.arms[arm].right]
        lost = [forgetting(stream.arms[arm], stream) for stream in result.streams]
        steps = [step for stream in result.streams for step in stream.arms[arm].steps if step.model != "base"]
        stored = sum(step.stored for step in steps)
        rows.append(
            [
                arm,
                _percent(mine),
                "" if arm == "never" else _change(mine, never),
                f"{100 * sum(lost) / len(lost):+.1f}",
                str(len(steps) - stored),
                str(stored),
            ]
        )
    return rows


def _change(mine: Sequence[bool], never: Sequence[bool]) -> str:
    """Return a paired change of accuracy with its bootstrap interval, in points."""
    change = 100 * (np.array(mine, dtype=float) - np.array(never, dtype=float))
    drawn = np.random.default_rng(0).integers(0, len(change), (RESAMPLES, len(change)))
    return with_interval(change.mean(), interval(change[drawn].mean(axis=1)), scale=1)


def forgetting(arm: ArmResult, stream: Stream) -> float:
    """Return the mean loss of accuracy since a task's best earlier segment's end, over the tasks before the last.

    Args:
        arm: one arm.
        stream: its stream.
    """
    tasks = [segment.task for segment in stream.segments]
    shares = [{task: sum(right) / len(right) for task, right in held.items()} for held in arm.held]
    losses = []
    for task in dict.fromkeys(tasks[:-1]):
        if task != tasks[-1]:
            earlier = [shares[at][task] for at in range(tasks.index(task), len(tasks) - 1)]
            losses.append(max(earlier) - shares[-1][task])
    return sum(losses) / len(losses) if losses else 0.0


def _segments(result: ContinualResult) -> list[list[str]]:
    rows = []
    for place, segment in enumerate(result.streams[0].segments):
        right: Mapping[Arm, list[bool]] = {arm: [] for arm in ARMS}
        for stream in result.streams:
            mine = stream.segments[place]
            for arm in ARMS:
                right[arm] += stream.arms[arm].right[mine.first : mine.first + mine.prompts]
        guessing = f"{100 * result.chance[segment.task]:.0f}"
        shown = [_percent(right[arm]) for arm in ARMS]
        rows.append([f"{place + 1}. {segment.task}", str(len(right["never"])), guessing, *shown])
    return rows


def _held(result: ContinualResult) -> list[list[str]]:
    return [
        [str(stream.seed), f"{place + 1}. {segment.task}", arm, *(_percent(held[task]) for task in result.chance)]
        for stream in result.streams
        for place, segment in enumerate(stream.segments)
        for arm in ARMS
        for held in [stream.arms[arm].held[place]]
    ]


def _steps(result: ContinualResult) -> list[list[str]]:
    rows = []
    for stream in result.streams:
        for arm in ARMS:
            told = [(step.prompt + 1, step.what) for step in stream.arms[arm].steps]
            told += [(alarm, "alarm") for alarm in stream.alarms] if arm == "alarms" else []
            rows += [[str(stream.seed), arm, str(prompt), what] for prompt, what in sorted(told)]
    return rows

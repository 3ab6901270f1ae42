"""What was measured of a stream of tasks."""

from typing import Literal

from cao.types import AcceptRule, Record
from eval.measured import Measured

Arm = Literal["never", "alarms", "last window"]
ARMS: tuple[Arm, ...] = ("never", "alarms", "last window")
"""Adapt never; by the watcher, on its alarms; fine-tune on the labels of the last window."""


class Segment(Record):
    """A stretch of the stream that is from one task; ``first`` is the number of its first prompt, from 0."""

    task: str
    first: int
    prompts: int


class Step(Record):
    """What one arm changed.

    Attributes:
        prompt: number of the first prompt that is answered by it.
        model: ``base``, or what names the model in the folder.
        what: in words.
        stored: whether it was put back without a new run.
    """

    prompt: int
    model: str
    what: str
    stored: bool = False


class ArmResult(Record):
    """One arm on one stream.

    Attributes:
        steps: what it changed, in order; the base model answers before.
        right: for each prompt of the stream whether it was answered rightly by the model of that time.
        held: at the end of each segment: task → right answers of the questions kept apart, in their order.
    """

    steps: tuple[Step, ...]
    right: tuple[bool, ...]
    held: tuple[dict[str, tuple[bool, ...]], ...]


class Stream(Record):
    """One stream: its segments, what each arm came to, and the watcher's alarms by prompt."""

    seed: int
    segments: tuple[Segment, ...]
    alarms: tuple[int, ...]
    arms: dict[Arm, ArmResult]


class ContinualResult(Measured):
    """What was measured.

    Attributes:
        reference: the task that the model is deployed for at first.
        accept: the rule of acceptance of runs; streams from before there was a choice had ``confident``.
        window: prompts collected behind an alarm, and labelled ones that the last arm trains on.
        held: questions of a task that are kept apart.
        chance: task → accuracy of guessing.
    """

    processor: str
    reference: str
    accept: AcceptRule = "confident"
    window: int
    held: int
    chance: dict[str, float]
    streams: tuple[Stream, ...]

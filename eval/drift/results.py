"""What the drift table holds, from the measurement to the page; ``drift.json`` is this and nothing else."""

from cao.types import Record

Interval = tuple[float, float]
TESTS = ("energy", "outliers", "mixture", "together")
"""The tests of a window, and all of them together."""


class Share(Record):
    """A share of some windows.

    Attributes:
        rate: the share.
        ci95: its Wilson interval.
        windows: how many there were.
    """

    rate: float
    ci95: Interval
    windows: int


class Tested(Record):
    """Windows of one size, tested at one level.

    Attributes:
        n: prompts of a window.
        level: of the test.
        test: one of ``TESTS``.
    """

    n: int
    level: float
    test: str


class FalseAlarms(Share, Tested):
    """Undrifted windows that were rejected; ``range`` is over single tasks or references."""

    range: Interval


class TestedMixture(Record):
    """The same for windows of which a share comes from elsewhere."""

    share: float
    n: int
    level: float
    test: str


class Pair(Record):
    """The task that was expected, and the one that prompts came from."""

    pair: tuple[str, str]


class WorstPair(Share, Pair):
    """The pair of tasks whose windows were rejected least often."""


class Power(Share, TestedMixture):
    """Drifted windows that were rejected, over pairs of tasks but ARC-Easy → ARC-Challenge.

    Attributes:
        worst: the worst pair.
        below: expected task, source and share of the pairs below .95.
        pairs: how many there were.
        arc: ARC-Easy → ARC-Challenge alone.
    """

    worst: WorstPair
    below: tuple[tuple[str, str, float], ...]
    pairs: int
    arc: Share


class Named(Record):
    """Windows of one size among some known tasks."""

    tasks: int
    n: int


class Nearest(Share, Named):
    """Windows whose nearest known task is the right one."""


class RunLength(Record):
    """Prompts until a false alarm.

    Attributes:
        mean: over the streams.
        lower95: its lower bound.
        runs: streams.
        cut_off: those that had no alarm.
    """

    mean: float
    lower95: float
    runs: int
    cut_off: int


class Delay(Record):
    """Prompts from a change to the alarm; ``arc_median`` is of ARC-Easy → ARC-Challenge alone, the rest without it."""

    median: float
    p90: float
    arc_median: float
    n: int


class Stream(Record):
    """Streams.

    Attributes:
        run_length: bag → prompts until a false alarm.
        delay: share of the prompts that change → prompts until the alarm.
    """

    run_length: dict[str, RunLength]
    delay: dict[str, Delay]


class SignalWindows(Record):
    """Windows of one size from one task, judged by prompts alone, by the option signals alone, or by both."""

    n: int
    origin: str
    test: str


class Signals(Share, SignalWindows):
    """Windows that were rejected."""


class Speed(Record):
    """Encoding a window and reporting on it, over encoding it.

    Attributes:
        task: where its prompts come from.
        ratio: median.
        p90: of the ratio.
        encoding_s: median.
        repeats: of the pair.
    """

    task: str
    ratio: float
    p90: float
    encoding_s: float
    repeats: int


Kinds = dict[str, dict[str, float]]
"""Origin of a window → reported kind of drift → share of the windows."""


class DriftResult(Record):
    """What was measured.

    Attributes:
        command: that measured it.
        windows: of a cell, about.
        seed: of the draws.
        speed: of a report.
        false_alarms: with the shipped references.
        redrawn: with references drawn anew.
        power: of the tests.
        kinds: that are reported.
        nearest: known task.
        stream: run lengths and delays.
        signals: of the model's options.
    """

    command: str
    windows: int
    seed: int
    speed: tuple[Speed, ...]
    false_alarms: tuple[FalseAlarms, ...]
    redrawn: tuple[FalseAlarms, ...]
    power: tuple[Power, ...]
    kinds: Kinds
    nearest: tuple[Nearest, ...]
    stream: Stream
    signals: tuple[Signals, ...]

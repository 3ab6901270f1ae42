"""The figures of a run, and of a training, as curves."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import TypeAdapter

from agent.record.trace_file import Event
from agent.telemetry.spans import NANO, node_end, time_of
from agent.train.policy.rest_em import Sample
from cao.errors import InputError
from cao.files import opened, opened_line

T = TypeVar("T")

SAMPLES = "samples.jsonl"
LOSSES = {
    "generator-losses.json": ("generator/reconstruction", "generator/answers"),
    "aligner-losses.json": ("aligner/loss", "aligner/kl"),
}
"""File of a consolidation's variant → what the columns of its rows are. The aligner's loss is the squared error of the
weights, or in nats the loss through the model, as its preset trains."""
TUNING = "fine-tuning-*-losses.json"
"""Files of a policy's training: the mean cross-entropy of replies, nats, step by step."""


class Point(NamedTuple):
    """A figure at a step; ``time`` is seconds since the epoch, None where nothing says when."""

    step: int
    value: float
    time: float | None = None


Curves = Mapping[str, Sequence[Point]]
"""Name of a figure → its points."""


def of_run(events: list[Event]) -> Curves:
    """Return a run's curves: rewards by attempt, of which 0 is the deployed model, and the time of each node by visit.

    An attempt that was dropped before the last question has no accuracy and no loss: they would be those of other
    questions. Its paired change is there.

    Args:
        events: the run's trace.

    Raises:
        InputError: an event is of another version.
    """
    curves: defaultdict[str, list[Point]] = defaultdict(list)
    visits: Counter[str] = Counter()
    for event in events:
        if event["event"] != "end":
            continue
        when, node = time_of(event) / NANO, event["node"]
        visits[node] += 1
        curves[f"seconds/{node}"].append(Point(visits[node], event.get("seconds", 0.0), when))
        end = node_end(event)
        trial = end.trial
        step = trial.attempt if trial else 0
        whole = end.baseline if trial is None else trial.reward if trial.dropped_after is None else None
        if whole:
            curves["reward/accuracy"].append(Point(step, whole.score, when))
            curves["reward/log-loss"].append(Point(step, whole.loss, when))
        if trial:
            curves["attempt/accepted"].append(Point(step, float(trial.accepted), when))
            curves["attempt/seconds"].append(Point(step, trial.seconds, when))
        if trial and trial.comparison:
            curves["attempt/change of log-loss"].append(Point(step, trial.comparison.loss_change, when))
            curves["attempt/change of accuracy"].append(Point(step, trial.comparison.accuracy_change, when))
    return _finite(curves)


def is_training(folder: Path) -> bool:
    """Return whether a folder is that of a consolidation, or of a policy's training."""
    return (folder / "variants").is_dir() or (folder / SAMPLES).is_file()


def of_training(folder: Path) -> Iterator[tuple[str, Curves]]:
    """Yield what a training learnt at: a consolidation's variants by name, a policy's training under an empty one.

    Raises:
        InputError: a file is damaged.
    """
    for variant in sorted((folder / "variants").glob("*")):
        curves: dict[str, Sequence[Point]] = {}
        for name, tags in LOSSES.items():
            if (file := variant / name).is_file():
                rows = _read(file, list[tuple[float, float]])
                curves |= {tag: [Point(i, row[k]) for i, row in enumerate(rows, 1)] for k, tag in enumerate(tags)}
        if curves:
            yield variant.name, _finite(curves)
    tuned = {path.name.split("-")[2]: _read(path, list[float]) for path in sorted(folder.glob(TUNING))}
    steps = {f"fine-tuning/{n}": [Point(i, loss) for i, loss in enumerate(rows, 1)] for n, rows in tuned.items()}
    if whole := {**steps, **_of_samples(folder / SAMPLES)}:
        yield "", _finite(whole)


def _of_samples(file: Path) -> Curves:
    """Return by iteration how many of the policy's texts are strategies, and how many of all improve the model."""
    if not file.is_file():
        return {}
    by: defaultdict[int, list[Sample]] = defaultdict(list)
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):  # the last line may be under way
        try:
            sample = Sample.model_validate_json(opened_line(line.decode("utf-8", "replace")))
        except ValueError:
            raise InputError(f"{file}:{number}: no sample") from None
        by[sample.iteration].append(sample)
    return {
        "samples/improve": [Point(i, sum(s.reward for s in some) / len(some)) for i, some in sorted(by.items())],
        "samples/valid": [Point(i, sum(s.valid for s in some) / len(some)) for i, some in sorted(by.items())],
    }


def _read(file: Path, kind: type[T]) -> T:
    try:
        return TypeAdapter(kind).validate_python(json.loads(opened(file.read_bytes())))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged ({type(error).__name__})") from None


def _finite(curves: Curves) -> Curves:
    return {name: [point for point in points if math.isfinite(point.value)] for name, points in curves.items()}

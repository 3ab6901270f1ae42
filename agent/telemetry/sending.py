"""Sending the spans of finished runs, and of runs while they are at work: the exporter is a process of its own."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.sdk.trace.export import SpanExporter

from agent.record.reading import read_run
from agent.record.runs import list_runs, run_folders
from agent.record.schema import RUNNING, UNFINISHED, Run
from agent.record.trace_file import read_trace
from agent.telemetry.otel import finished, sent
from agent.telemetry.spans import spans_of
from cao.encodings import visible
from cao.errors import InputError, UnavailableError

LOOKS_S = 1.0
"""Time between two looks at runs that are followed."""


@dataclass
class Sending:
    """What sends runs' spans, each once, and again where it ended anew.

    Attributes:
        exporter: takes them.
        place: what is said of where they go.
        check: raises an error where a run's spans must not go there.
        looks_s: time between two looks at a run that is followed, s.
        count: spans that were taken.
        failing: whether the last ones were not taken.
    """

    exporter: SpanExporter
    place: str
    check: Callable[[Run], None]
    looks_s: float = LOOKS_S
    count: int = 0
    failing: bool = False
    _ends: defaultdict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict), repr=False)

    def once(self, folder: Path) -> None:
        """Send what a run's record has so far.

        Raises:
            InputError: the record is damaged.
            UnavailableError: the spans were not taken, or must not go there.
        """
        self._look(folder)
        if self.failing:
            raise UnavailableError(
                f"{self.place} did not take the spans; is a collector there that speaks OTLP over HTTP? "
                "OTEL_EXPORTER_OTLP_ENDPOINT names it, OTEL_EXPORTER_OTLP_HEADERS holds its key"
            )

    def follow(self, folder: Path) -> None:
        """Send a run's spans as they end, until nobody works on it; one that is not taken is sent again.

        Raises:
            InputError: the record is damaged.
            UnavailableError: the last spans were not taken, or none must go there.
        """
        while self._watched(folder)[0] == RUNNING:
            time.sleep(self.looks_s)
        self.once(folder)

    def follow_all(self, out: Path, until: Callable[[], bool] = lambda: False) -> None:
        """Send the spans of every run that is at work, or begins; a run that cannot be sent is named and left out.

        Args:
            out: the folder of runs.
            until: says when to end; else an interrupt does.
        """
        before = {run.run_id: run.status for run in list_runs(out) if run.status != RUNNING}
        left = {name for name, status in before.items() if status == UNFINISHED}  # it may be resumed
        past = before.keys() - left
        while not until():
            for folder in run_folders(out):
                if (name := folder.name) in past:
                    continue
                try:
                    if name in left and read_run(folder).status == UNFINISHED:
                        continue
                    left.discard(name)
                    status, begun = self._watched(folder)
                except (InputError, UnavailableError) as error:
                    _say(f"{name} is left out: {error}")
                    past.add(name)
                    continue
                if begun and not self.failing and status not in (RUNNING, UNFINISHED):
                    past.add(name)
                    _say(f"{name}: {status}, {len(self._ends[name])} spans sent")
            time.sleep(self.looks_s)

    def _watched(self, folder: Path) -> tuple[str, bool]:
        """Look, and say where spans begin or cease to be taken."""
        before, found = self.failing, self._look(folder)
        if self.failing != before:
            _say(f"{self.place} {'does not take spans; they are sent again' if self.failing else 'takes spans'}")
        return found

    def _look(self, folder: Path) -> tuple[str, bool]:
        """Send what has ended since the last look; return the run's status, and whether anything has happened."""
        run = read_run(folder)  # before the trace: what is written between the two is not lost
        self.check(run)
        spans, ends = spans_of(run, read_trace(folder)), self._ends[run.run_id]
        fresh = [(span.context.span_id, span.end_time or 0, span) for span in finished(run.run_id, spans)]
        fresh = [each for each in fresh if ends.get(each[0]) != each[1]]
        if fresh:
            self.failing = not sent(self.exporter, [span for *_, span in fresh])
        if not self.failing:
            ends.update((key, end) for key, end, _ in fresh)
            self.count += len(fresh)
        return run.status, bool(spans)


def _say(text: str) -> None:
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()

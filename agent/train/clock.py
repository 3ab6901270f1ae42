"""How far a consolidation is, in lines on standard error."""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from cao.progress import Pace

EVERY_S = 10.0
"""Seconds between two lines about one piece of work."""


class Clock:
    """Says how far the work is and how long it will take yet.

    Attributes:
        total: number of jobs; 0 where only single pieces of work are reported on, in a worker.
        done: jobs that are finished.
    """

    def __init__(self, jobs: Sequence[tuple[str, str]], total: int, workers: int = 1) -> None:
        """Start the clock.

        Args:
            jobs: (kind, name) of the jobs that are left.
            total: number of all jobs, those of earlier calls too.
            workers: processes that share them.
        """
        self.total, self.done, self.workers = total, total - len(jobs), workers
        self.left = Counter(kind for kind, _ in jobs)
        self.took: dict[str, list[float]] = defaultdict(list)
        self.pace = Pace()
        self.last = -EVERY_S

    def progress(self, label: str, done: int, total: int) -> None:
        """Write a line every ten seconds: how far a piece of work is and how long it will take yet."""
        now = time.monotonic()
        left = self.pace.left(label, done, total, now)
        if now - self.last < EVERY_S and done != total:
            return
        self.last = now
        self._write(f"{label}: {done} of {total}{f', {span(left)} left' if left and left >= 1 else ''}")

    def finished(self, job: tuple[str, str], seconds: float) -> None:
        """Count a job and write how long all the others will take, as far as their kinds have been seen."""
        kind, name = job
        self.done += 1
        self.left[kind] -= 1
        self.took[kind].append(seconds)
        self._write(f"{kind} {name} took {span(seconds)}{self._rest()}")

    def _rest(self) -> str:
        known = sum(sum(took) / len(took) * self.left[kind] for kind, took in self.took.items()) / self.workers
        unseen = [f"{count} {kind}" for kind, count in self.left.items() if count and kind not in self.took]
        rest = [f"about {span(known)}"] if known else []
        if unseen:
            rest.append(f"{' and '.join(unseen)} jobs, of which none is timed yet")
        return f"; {' and '.join(rest)} left" if rest else ""

    def _write(self, text: str) -> None:
        sys.stderr.write(f"[{self.done}/{self.total} done] {text}\n" if self.total else f"{text}\n")
        sys.stderr.flush()


def span(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

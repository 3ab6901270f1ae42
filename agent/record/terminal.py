"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere; the outcome at the end."""

import sys
import time
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from agent.record.commands import trace_command
from agent.record.events import evaluations_text, sentence
from agent.record.gains import rules_sentence, sides, steps_sentences
from agent.record.missing import missing_sentences
from agent.record.schema import RunRecord
from agent.record.starting import start_sentence
from agent.record.wording import (
    at_chance_text,
    compute_text,
    count,
    duration,
    guess_text,
    headline,
    model_name,
    percent,
    verdict,
)
from cao.progress import Pace, listen


class View(Protocol):
    """Shows events and progress."""

    def event(self, node: str, event: str, data: dict[str, JsonValue], seconds: float | None) -> None:
        """Show that a node started or ended."""

    def progress(self, label: str, done: int, total: int) -> None:
        """Show how far long work has come."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Leave the terminal tidy."""


class PlainView:
    """One line for each thing that happens; long work at most every ten seconds, and never one line twice."""

    def __init__(self) -> None:
        self._last, self._shown = time.monotonic(), ""
        self._pace = Pace()

    def event(self, node: str, event: str, data: dict[str, JsonValue], seconds: float | None) -> None:
        """Write one line when a node ends."""
        self._last = time.monotonic()
        if event == "end":
            sys.stderr.write(f"{node:<9} {seconds or 0:6.1f} s  {sentence(node, data)}\n")
        elif event == "resume":
            sys.stderr.write(f"resuming at {data['at']}\n")
        sys.stderr.flush()

    def progress(self, label: str, done: int, total: int) -> None:
        """Write a line if ten seconds passed since the last."""
        now = time.monotonic()
        left = self._pace.left(label, done, total, now)
        line = f"{label}{f': {done} of {total}' if total else ''}"
        if now - self._last >= 10 and line != self._shown:
            self._last, self._shown = now, line
            rest = f", about {duration(left)} left" if left else ""
            sys.stderr.write(f"{'':<9} {line}{rest}\n")
            sys.stderr.flush()

    def say(self, text: str) -> None:
        """Write the line."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing is open."""


class LiveView:
    """A spinner with a bar for the work in hand, and a permanent line for each finished node."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._pace = Pace()
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._task = self._bar.add_task("starting", total=None, left="")
        self._bar.start()
        self._stop_listening = listen(self._show)

    def event(self, node: str, event: str, data: dict[str, JsonValue], seconds: float | None) -> None:
        """Start a bar, or print the node's result."""
        if event == "start":
            self._bar.reset(self._task, description=node, total=None, left="")
        elif event == "end":
            text = f"[bold]{node:<9}[/] [dim]{seconds or 0:6.1f} s[/]  {escape(sentence(node, data))}"
            self.console.print(text, highlight=False)
        elif event == "resume":
            self.console.print(f"resuming at {escape(str(data['at']))}")

    def _show(self, what: str, seconds: float | None) -> None:
        """Show what began beside the spinner, and what ended as a permanent line."""
        if seconds is None:
            self._bar.reset(self._task, description=escape(what), total=None, left="")
        else:
            self.console.print(f"{'':<9} [dim]{seconds:6.1f} s[/]  {escape(what)}", highlight=False)

    def progress(self, label: str, done: int, total: int) -> None:
        """Move the bar; other work begins a new one, whose pace is its own."""
        if label != self._pace.label or not total:
            self._bar.reset(self._task, total=total or None)
        left = self._pace.left(label, done, total, time.monotonic())
        rest = f"about {duration(left)} left" if left else ""
        self._bar.update(self._task, description=escape(label), completed=done, total=total or None, left=rest)

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        self.console.print(escape(text), highlight=False)

    def close(self) -> None:
        """Remove the bar."""
        self._stop_listening()
        self._bar.stop()


def make_view() -> View:
    """Return the live view on a terminal, the plain one elsewhere."""
    return LiveView() if sys.stderr.isatty() else PlainView()


def print_summary(run: RunRecord, folder: str) -> None:
    """Print the outcome on standard output, for people."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    if run.test:
        console.print(_test_table(run))
    if start := start_sentence(run):
        console.print(escape(start))
    console.print(escape(f"{headline(run)}. {verdict(run)} {at_chance_text(run)}".rstrip()))
    for line in missing_sentences(run):
        console.print(escape(line))
    if seen := run.smallest_detectable:
        by_loss = "no change of the log-loss" if seen.loss is None else f"log-loss changes from {seen.loss:.2g}"
        console.print(
            f"The reward part ({run.splits['reward']} questions) could see "
            f"{by_loss} and accuracy changes from {100 * seen.accuracy:.1f} points "
            f"(one-sided .1, power .8).{_adopted_from(run)}"
        )
    if rules := rules_sentence(run):
        console.print(escape(rules))
    if steps := steps_sentences(run.test):
        console.print("Step by step on test:")
        for step in steps:
            console.print(escape(f"  {step}"))
    if counts := evaluations_text(run):
        console.print(counts)
    slow = sorted(run.timing_s.items(), key=lambda item: -item[1])
    split = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in slow if seconds >= 0.5)
    own, told = run.overhead_share, ""
    if own is not None:
        told = f"graph, checkpoints and trace {100 * own:.2f} % of the last process's time; "
    console.print(
        f"{count(len(run.trials), 'attempt')} in {run.seconds:.0f} s{split and f' ({split})'}; {told}peak memory "
        f"{run.peak_memory_mb / 1024:.2f} GB."
    )
    if computed := compute_text(run):
        console.print(escape(f"Computed in {computed}."))
    shown = trace_command("show", Path(folder).parent, run.run_id)
    console.print(Panel(escape(f"report  {folder}/report.html\ntrace   {shown}"), expand=False))


def _adopted_from(run: RunRecord) -> str:
    """Say what the rule of acceptance makes of the smallest change that can be seen; ``any`` does not ask for it."""
    if run.config.get("accept") == "any":
        return ""
    return " What measures less is not adopted: a true change of just that size is found in half of the runs."


def _test_table(run: RunRecord) -> Table:
    assert run.test is not None
    table = Table(
        title=f"{run.task} · {model_name(run.model)} · {run.test.baseline.n} test questions",
        title_justify="left",
    )
    for column in ("", "accuracy", "95 % interval", "log-loss", "gold margin"):
        table.add_column(column, justify="left" if not column else "right")
    for name, side in sides(run.test).items():
        name += ", at chance" if side.at_chance else ""
        low, high = side.ci95
        values = (
            f"{100 * side.accuracy:.1f} %",
            f"{100 * low:.1f} – {100 * high:.1f} %",
            f"{side.loss:.4f}",
        )
        table.add_row(name, *values, f"{side.margin:+.4f}")
    if run.test.chance is not None:
        table.add_row("guessing", percent(run.test.chance), "", guess_text(run.test.baseline), "", style="dim")
    return table

"""How ``python -m agent.trace`` shows runs on a terminal; a run's texts are hostile: no markup, nothing hidden."""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.record.commands import next_step, start_command, trace_command
from agent.record.events import evaluations_text, sentence
from agent.record.gains import rules_sentence, sides, steps_sentences
from agent.record.missing import missing_sentences
from agent.record.page.questions import paired_change
from agent.record.runs import RunSummary, is_run
from agent.record.schema import Run
from agent.record.starting import caveats, start_sentence
from agent.record.trace_file import Event
from agent.record.wording import (
    START_NAMES,
    bare_p,
    compared_sentence,
    drift_sentence,
    duration,
    guess_text,
    headline,
    interval,
    model_name,
    number,
    one_line,
    outcome,
    p_text,
    percent,
    points,
    proposal,
    signed,
    verdict,
)
from cao.encodings import visible
from cao.types import Comparison, Trial

WIDTH = 140
"""Columns where standard output is no terminal and COLUMNS does not say."""

SPARED = ("!policy", "!model", ">tries", ">age", ">reward", "!task")
"""Columns of the list of runs that give way, in this order, where the terminal is too narrow for all."""

STYLES = {"improved": "green", "no_improvement": "yellow", "unfinished": "cyan", "running": "cyan", "damaged": "red"}
BAR = 40


def show_list(runs: list[RunSummary], out: Path, now: datetime) -> None:
    """Print the table of runs.

    Args:
        runs: what ``list_runs`` returned.
        out: the folder of runs.
        now: what ages are counted from, UTC.
    """
    if not runs:
        below = sorted({path.parent for depth in ("*/*", "*/*/*") for path in out.glob(depth) if is_run(path)})
        listed = ", ".join(trace_command("list", folder) for folder in below[:3]) + (" …" if below[3:] else "")
        told = f"folders below have some: {listed}" if below else f"start one with: {start_command(out)}"
        sys.stdout.write(f"no runs in {out}; {told}\n")
        return
    console = open_console()
    for spared in range(len(SPARED) + 1):
        table = _run_table(runs, now, SPARED[:spared])
        needed = console.measure(table, options=console.options.update(width=10_000)).maximum
        if needed <= console.width:
            break
    console.width = max(needed, console.width)  # what is left is broken by the terminal, not cut
    console.print(table)
    if spared:
        gone = ", ".join(column.lstrip(">!") for column in SPARED[:spared])
        console.print(Text(f"not shown for want of width: {gone}", "dim"))
    for run in runs:
        if run.problem:
            console.print(Text(visible(run.problem), "red"))


def _run_table(runs: list[RunSummary], now: datetime, hidden: tuple[str, ...]) -> Table:
    """Return the table of runs without the hidden columns; no cell is cut."""
    rows: list[dict[str, str | Text]] = []
    for run in runs:
        status = f"{run.status} ({run.last_node})" if run.last_node else run.status
        measured = run.test_base is not None
        test = f"{from_to(run.test_base, run.test_adapted)}  {p_text(run.test_p_value)}" if measured else "—"
        rows.append(
            {
                "!run": Text(run.run_id),
                **{f"!{key}": Text(one_line(getattr(run, key) or "—", 24)) for key in ("task", "model", "policy")},
                "!status": Text(visible(status), STYLES.get(run.status, "")),
                ">tries": str(run.attempts),
                ">reward": from_to(run.reward_baseline, run.reward_best),
                ">test": test,
                ">age": _age(run.created, now),
            }
        )
    columns = [column for column in rows[0] if column not in hidden]
    table = empty_table(*columns)
    table.padding = (0, 1, 0, 0)
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def show_run(run: Run, events: list[Event], path: Path) -> None:
    """Print one run: outcome, steps, attempts, drift, test and where the time went."""
    console = open_console()
    facts = (run.task, model_name(run.model or ""), run.policy, f"seed {run.seed}", run.created)
    console.print(
        Text(visible(run.run_id), "bold"),
        Text(visible(" · ".join(str(fact) for fact in facts if fact)), "dim"),
    )
    console.print(Text(headline(run), f"bold {STYLES.get(run.status, '')}"))
    change = paired_change(path, "test-baseline", "test-adapted", "correct") if run.status == "improved" else None
    console.print(Text(visible(verdict(run, change))))
    for line in missing_sentences(run):
        console.print(Text(visible(line)))
    step, command = next_step(run, path.parent)
    console.print(Text(visible(f"Next: {step}")))
    console.print(Text(visible(f"      {command}"), "cyan"), soft_wrap=True)
    console.print(_timeline(events))
    if start := start_sentence(run):
        console.print(Text(start))
        console.print(_starts(run))
    for caveat in caveats(run):
        console.print(Text(f"  {caveat}", "dim"))
    if rules := rules_sentence(run):
        console.print(Text(visible(rules)))
    if run.trials:
        console.print(_attempts(run.trials))
    if counts := evaluations_text(run):
        console.print(Text(f"  {counts}", "dim"))
    console.print(Text(visible(drift_sentence(run.drift))))
    if compared := compared_sentence(run):
        console.print(Text(f"  {compared}", "dim"))
    for caveat in run.drift.caveats if run.drift else ():
        console.print(Text(f"  {visible(caveat)}", "dim"))
    if run.test:
        console.print(_test(run))
        for line in steps_sentences(run.test):
            console.print(Text(f"  {visible(line)}"))
    if run.timing_s:
        console.print(_times(run))


def _timeline(events: list[Event]) -> Table:
    table = empty_table(">", "step", ">time", "what came of it")
    count, waiting = 0, ""
    for event in events:
        node, kind = event["node"], event["event"]
        if kind == "start":
            waiting = node
        elif kind == "end":
            count, waiting = count + 1, ""
            what = Text(one_line(_sentence(node, event.get("data") or {}), 400))
            table.add_row(str(count), Text(visible(node)), duration(event.get("seconds")), what)
        elif kind in ("resume", "error"):
            table.add_row("", Text(visible(node), "dim"), "", Text(kind, "cyan" if kind == "resume" else "red"))
    if waiting:
        table.add_row("", Text(visible(waiting)), "", Text("began and has not ended", "cyan"))
    return table


def _sentence(node: str, data: dict[str, JsonValue]) -> str:
    try:
        return sentence(node, data)
    except ValueError:
        return ""  # an event of another version: its place and time are still worth showing


def _attempts(trials: tuple[Trial, ...]) -> Table:
    table = empty_table(">try", "proposed", "verdict", ">Δ accuracy", ">p", ">Δ log-loss", ">p", ">time", "reason")
    for i, trial in enumerate(trials, start=1):
        comparison = trial.comparison
        accuracy = comparison.accuracy_change if comparison else None
        change = signed(100 * accuracy, 1) if accuracy is not None else "—"
        loss = signed(comparison.loss_change) if comparison else "—"
        more, lower = _p_values(comparison)
        word = Text(outcome(trial), "green" if trial.accepted else "yellow")
        what, why = Text(proposal(trial.strategy, trial.raw)), Text(one_line(trial.reason, 200))
        table.add_row(str(i), what, word, change, more, loss, lower, duration(trial.seconds), why)
    return table


def _p_values(comparison: Comparison | None) -> tuple[str, str]:
    """Return the one-sided p-values of a higher accuracy and of a lower log-loss."""
    if comparison is None:
        return "—", "—"
    return bare_p(comparison.accuracy_p_value), bare_p(comparison.loss_p_value)


def _starts(run: Run) -> Table:
    table = empty_table("start", ">accuracy", ">95 % interval", ">p", ">log-loss", ">Δ log-loss", ">p", "")
    for name, reward in run.reward.starts().items():
        comparison = run.reward.comparisons.get(name)
        more, lower = _p_values(comparison)
        change = signed(comparison.loss_change) if comparison else "—"
        measured = (percent(reward.score), interval(reward.ci95), more, number(reward.loss), change, lower)
        chosen = Text("the loop starts here", "green") if name == run.reward.start else Text("")
        after = run.reward.dropped_after.get(name)
        if after is not None:  # its accuracy and its log-loss are those of other questions
            measured = (points(comparison.accuracy_change if comparison else None), "—", more, "—", change, lower)
            chosen = Text(f"dropped after {after} questions", "yellow")
        at_chance = ", at chance" if reward.at_chance and after is None else ""
        table.add_row(START_NAMES[name].removeprefix("the ") + at_chance, *measured, chosen)
    return table


def _test(run: Run) -> Table:
    assert run.test
    table = empty_table("test", ">accuracy", ">95 % interval", ">log-loss", ">n")
    for name, side in sides(run.test).items():
        name += ", at chance" if side.at_chance else ""
        table.add_row(name, percent(side.accuracy), interval(side.ci95), number(side.loss), str(side.n or "—"))
    if run.test.chance is not None:
        table.add_row("guessing", percent(run.test.chance), "", guess_text(run.test.baseline), style="dim")
    return table


def _times(run: Run) -> Table:
    table = empty_table("where the time went", ">", ">", "")
    total = sum(run.timing_s.values()) or 1.0
    for name, seconds in sorted(run.timing_s.items(), key=lambda entry: -entry[1]):
        share = seconds / total
        table.add_row(
            Text(visible(name)),
            duration(seconds),
            percent(share),
            "█" * round(BAR * max(0.0, min(share, 1.0))),
        )
    if run.overhead_share is not None:
        table.add_row(Text("graph, checkpoints, trace, last process", "dim"), "", percent(run.overhead_share, 2), "")
    return table


def from_to(before: float | None, after: float | None) -> str:
    """Return what a share was and what it became."""
    return "—" if before is None else f"{100 * before:.1f} → {percent(after)}"


def _age(created: str | None, now: datetime) -> str:
    try:
        then = datetime.fromisoformat(created or "")
    except ValueError:
        return "—"
    seconds = (now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"


def empty_table(*columns: str) -> Table:
    """Return a table with these columns: ``>`` before a name sets it right, ``!`` and ``>`` keep it on one line."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        right, whole = column.startswith(">"), column.startswith((">", "!"))
        table.add_column(Text(visible(column.lstrip(">!"))), justify="right" if right else "left", no_wrap=whole)
    return table


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the command's own handling, not rich's exit status 1


def open_console() -> Console:
    """Return standard output, on which a run's texts are no markup."""
    width = None if sys.stdout.isatty() else shutil.get_terminal_size((WIDTH, 0)).columns
    return _Console(file=sys.stdout, width=width, markup=False, emoji=False, highlight=False)

"""The command ``eval.compare`` behind its options: read both sides, judge them and print what came of it."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.record.runs import find_run
from agent.record.wording import bare_p, count, number, one_line, percent, points, signed
from cao.encodings import visible
from cao.errors import InputError
from cao.types import ID_PATTERN
from eval.comparison.answers import Side, check_file
from eval.comparison.judge import Compared, Judgement, judge
from eval.comparison.own_files import read_items, read_run_folder, read_score
from eval.comparison.sample_log import read_samples
from eval.comparison.table_row import read_row, split_row
from eval.options import CompareOptions

LOG = "lm-evaluation-harness"


def compare(options: CompareOptions, *, as_json: bool) -> int:
    """Judge two sets of answers and print what came of it.

    Args:
        options: what the command takes.
        as_json: print an object.

    Raises:
        InputError: a side cannot be read, or no question is in both.
    """
    sides = [read_side(source, options) for source in (options.a, options.b)]
    if (options.metric or options.filter) and all(side.kind != LOG for side in sides):
        raise InputError(f"--metric and --filter choose in a sample log of {LOG}, and neither side is one")
    found = judge(*sides)
    if as_json:
        sys.stdout.write(json.dumps(found.model_dump(mode="json"), allow_nan=False) + "\n")
    else:
        _print(found)
    return 0


def read_side(source: str, options: CompareOptions) -> Side:
    """Return one side's answers, whatever kind of file or folder has them.

    Raises:
        InputError: it is of no kind that is read, or damaged.
    """
    if "\0" in source:
        raise InputError("a path cannot hold a NUL character")
    try:
        return _read(source, options)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from None


def _read(source: str, options: CompareOptions) -> Side:
    path = Path(source)
    if not path.exists() and (named := split_row(source)):
        return read_row(*named)
    if not path.exists() and ID_PATTERN.fullmatch(source):
        path = find_run(Path(options.out), source)
    if path.name == "run.json":
        path = path.parent
    if path.is_dir():
        return read_run_folder(path)
    check_file(path)
    with path.open("rb") as stream:
        first = next((line for line in stream if line.strip()), b"").strip()
    keys = _keys(first)
    if {"doc_id", "filtered_resps"} <= keys:
        return read_samples(path, options.metric, options.filter)
    if {"id", "correct"} <= keys:
        return read_items(path)
    if {"table", "rows"} <= _keys_of_whole(path, first):
        raise InputError(f"{path}: is a table of several rows; name one: {path}:base")
    if "items" in keys or (not keys and first.startswith(b"{")):
        return read_score(path)
    kinds = (
        "a run's folder, a file of its items, an output of eval.score --json, a table's row (table2.json:base), or a "
        f"sample log of {LOG}"
    )
    raise InputError(f"{path}: is none of {kinds}")


def _keys_of_whole(path: Path, first: bytes) -> set[str]:
    """Return the keys of the object that a whole file holds over several lines."""
    return _keys(path.read_bytes()) if first == b"{" else set()


def _keys(line: bytes) -> set[str]:
    """Return the keys of the object that a line holds, none where it holds no whole one."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return set()
    return set(value) if isinstance(value, dict) else set()


def _print(found: Judgement) -> None:
    table = Table("", "A", "B", "B − A", "95 %", "p")
    loss, (low, high) = found.loss, found.accuracy_ci95
    table.add_row("answers", *(_text(side) for side in (found.a, found.b)))
    table.add_row("by", *(Text(_rule(side)) for side in (found.a, found.b)))
    changes = (
        points(found.accuracy_change),
        f"{points(low).removesuffix(' points')} to {points(high)}",
        bare_p(found.p_value),
    )
    table.add_row("accuracy", percent(found.a.accuracy), percent(found.b.accuracy), *changes)
    table.add_row("right alone", str(found.only_a), str(found.only_b))
    if loss is not None:
        of = f" of {loss.n}" if loss.n < found.n else ""
        ends = " to ".join(map(signed, loss.ci95))
        told = (f"{signed(loss.change)} nats", ends, bare_p(loss.p_value))
        table.add_row(f"log-loss{of}", number(found.a.log_loss), number(found.b.log_loss), *told)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(table)
    by = ", ".join(f"{n} by {how}" for how, n in found.matched_by.items())
    left = " and ".join(f"{side.left_out} of {name}'s" for name, side in (("A", found.a), ("B", found.b)))
    console.print(Text(f"{count(found.n, 'question')} matched ({by}); {left} questions left out"))
    console.print(Text(f"{found.verdict}."))


def _rule(side: Compared) -> str:
    return visible(side.rule) + (f", mean of {side.seeds} seeds" if side.seeds > 1 else "")


def _text(side: Compared) -> Text:
    about = " · ".join(part for part in (side.task, side.model) if part)
    return Text(f"{one_line(side.source, 60)}\n{visible(side.kind)}" + (f"\n{one_line(about, 60)}" if about else ""))

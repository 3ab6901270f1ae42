"""The pages of verdicts, from the files of the tables that lie beside them: one for each way of answering."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cao.errors import InputError
from cao.files import write_atomic
from cao.types import AnswerProtocol
from eval.pages.markdown import table
from eval.paper.page import name_of
from eval.paper.results import TableResult
from eval.paper.rows import PAPERS_ALL
from eval.paper.tables import TABLES
from eval.paper.verdicts.claims import verdicts
from eval.paper.verdicts.verdict import UNMEASURED, Verdict

OTHERS = {"3": "table3.json", "4": "table4.json", "figures": "figures.json", "cost": "cost.json"}
"""Table → the file that has ``verdicts`` of its own."""

WHOSE = ("--model", "--model-path", "--consolidation", "--pretrained")
"""Options that say which model and which generators are measured."""

_LISTED = TypeAdapter(list[Verdict])


WRITTEN = """Here models write their answers, and a program reads them; a text that gives no answer is wrong. What was \
not measured so is not listed. The tables say which share of a row's texts is parsable: a gain of written answers may \
be one of their form alone.

"""
"""What the page says of answers that are written."""


def write_verdicts(folder: Path, protocol: AnswerProtocol = "likelihood") -> tuple[list[Verdict], Path]:
    """Write ``verdicts.md`` from the tables in a folder, and return what it says, and the file.

    Tables 3, 4, figures and cost ask no questions, and are judged beside those that rank answers by likelihood. Tables
    whose answers are written have ``verdicts-generate.md``.

    Args:
        folder: with the tables' JSON files.
        protocol: how the tables' questions are answered.

    Raises:
        InputError: no table lies there, a file is no table's, or tables of different models lie there.
    """
    tables = {number: one for number in TABLES if (one := _table(folder / f"{name_of(number, protocol)}.json"))}
    shas = {one.model_sha256: one.model for one in tables.values()}
    others, rests = dict[str, list[Verdict]](), list[str]()
    for name, file in OTHERS.items() if protocol == "likelihood" else ():
        path = folder / file
        if path.exists():
            record = _read(path)
            others[name] = _listed(path, record)
            rests.append(_rest(name, record))
            if isinstance(sha256 := record.get("model_sha256"), str):
                shas[sha256] = str(record.get("model"))
    if not shas:
        answered = "" if protocol == "likelihood" else f" --protocol {protocol}"
        raise InputError(
            f"{folder}: no table that verdicts are of lies there; --out names another folder, and "
            f"python -m eval.tables --table 2 --preset quick{answered} --out {folder} makes one"
        )
    if len(shas) > 1:
        raise InputError(
            f"{folder} has tables of several models ({', '.join(sha[:12] for sha in shas)}); keep them apart"
        )
    model = next(iter(shas.values()), "")
    found = verdicts(tables, asked_by(next(iter(tables.values())).command, model) if tables else model, others)
    if protocol != "likelihood":
        found = [one for one in found if one.verdict != UNMEASURED]
    path = folder / ("verdicts.md" if protocol == "likelihood" else f"verdicts-{protocol}.md")
    write_atomic(path, page(found, model, list(tables.values()), rests, protocol))
    return found, path


def asked_by(command: str, model: str) -> str:
    """Return how a measured table's command asks for its model and generators, for the commands of other tables.

    Args:
        command: of the table.
        model: the profile's name, for a command that names no model.
    """
    words = shlex.split(command)
    given = {option: words[i + 1] for i, option in enumerate(words[:-1]) if option in WHOSE}
    return shlex.join([given.pop("--model", model), *chain.from_iterable(given.items())])


def page(
    found: Sequence[Verdict],
    model: str,
    tables: Sequence[TableResult],
    others: Sequence[str] = (),
    protocol: AnswerProtocol = "likelihood",
) -> str:
    """Return the page as Markdown.

    Args:
        found: the verdicts.
        model: its name.
        tables: that were measured, for what they rest on.
        others: lines of the same on tables that have verdicts of their own.
        protocol: how their questions are answered.
    """
    rests = [
        f"- Table {one.table}: {one.measured}, {one.dtype}, {one.machine}, preset `{one.preset}`, seeds "
        f"{', '.join(map(str, one.seeds))}, at most {one.limit} test questions of {len(one.tasks)} tasks, runs by "
        f"`--accept {one.accept}`{_as_the_paper(one)}, {len(one.versus)} comparisons"
        for one in tables
    ]
    papers, beyond = ([one for one in found if one.beyond == apart] for apart in (False, True))
    return f"""# The paper's claims, held against what was measured on {model}

{_counted(papers)}. A claim that one row of Tables 2 or 6 is better than another holds where the 95 % interval \
excludes zero and the p-value, corrected by Holm for all comparisons of its table, is below .05. Claims of gradients, \
of sparsity and of families hold by the 95 % interval alone, without a correction; that of cost by exponents, and that \
of cosines by their size, without an interval. “Does not hold here” may mean that a difference is too small for these \
questions; the figure says which.

{WRITTEN if protocol == "generate" else ""}{_listing(papers)}
{_apart(beyond)}## What this rests on

{chr(10).join([*rests, *others]) or "Nothing is measured yet."}
"""


def _rest(name: str, record: Mapping[str, object]) -> str:
    """Return what verdicts of a table with verdicts of its own rest on, in a line."""
    seeds = record.get("seeds")
    named = ", ".join(map(str, seeds)) if isinstance(seeds, list) else "unknown"
    code = "" if record.get("code") else ", the version of the code was not recorded"
    titled = f"Table {name}" if name.isdigit() else f"`--table {name}`"
    day, dtype = record.get("measured", "day unknown"), record.get("dtype", "dtype unknown")
    return f"- {titled}: {day}, {dtype}, seeds {named}{code}"


def _as_the_paper(table: TableResult) -> str:
    """Return by which rule the runs accept that do as the paper does; empty where there are none."""
    return " and by `--accept any`" if PAPERS_ALL in table.rows else ""


def _apart(beyond: Sequence[Verdict]) -> str:
    """Return the part on comparisons that the paper does not make; empty where there is none."""
    if not beyond:
        return ""
    return f"""## Comparisons that the paper does not make

{_counted(beyond)}, by the same measure: baselines and controls that it has no mean of.

{_listing(beyond)}
"""


def _listing(found: Sequence[Verdict]) -> str:
    rows = [[one.claim, f"**{one.verdict}**", one.figure, one.reason, f"`{one.command}`"] for one in found]
    return table(["claim", "verdict", "figure", "of what, or why not", "command"], rows)


def _counted(found: Sequence[Verdict]) -> str:
    counts = Counter(one.verdict for one in found)
    return ", ".join(f"{count} {said}" for said, count in counts.items()) or "Nothing is measured"


def _table(path: Path) -> TableResult | None:
    if not path.exists():
        return None
    try:
        return TableResult.model_validate(_read(path))
    except ValidationError as error:
        raise InputError(
            f"{path}: not a table of this version ({error.error_count()} mistakes); measure it again"
        ) from None


def _read(path: Path) -> dict[str, object]:
    try:
        return TypeAdapter(dict[str, object]).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__}); measure it again") from None


def _listed(path: Path, record: dict[str, object]) -> list[Verdict]:
    try:
        return _LISTED.validate_python(record.get("verdicts", []))
    except ValidationError:
        raise InputError(f"{path}: its verdicts cannot be read; measure it again") from None

"""A row of a table of ``eval.tables`` as one side: every test question of its tasks, right or wrong."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cao.errors import InputError
from eval.comparison.answers import BY_ID, Answered, Side, check_file, parsed

SEPARATOR = ":"
"""Between a table's file and the row, as in ``table2.json:base``."""


class CellAnswers(BaseModel):
    """A row on a task, as far as it is read here; see ``eval.paper.results.Cell``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    right: tuple[str, ...] = ()


class RowAnswers(BaseModel):
    """A row, as far as it is read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cells: dict[str, CellAnswers]


class TableAnswers(BaseModel):
    """A table's file, as far as it is read here; see ``eval.paper.results.TableResult``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    table: str
    model: str
    protocol: str
    questions: dict[str, tuple[str, ...]] = {}
    rows: dict[str, RowAnswers]


def split_row(source: str) -> tuple[Path, str] | None:
    """Return a table's file and the row that a source names, None where it names none."""
    file, separator, row = source.rpartition(SEPARATOR)
    return (Path(file), row) if separator and file.endswith(".json") else None


def read_row(file: Path, row: str) -> Side:
    """Return the answers of a row of a table, by its own rule; of several seeds those of the first one.

    Args:
        file: the table's.
        row: its name.

    Raises:
        InputError: there is no such table or row, or its answers were not kept.
    """
    check_file(file)
    table = parsed(file.read_bytes(), TableAnswers, f"{file}: no table of eval.tables")
    if row not in table.rows:
        raise InputError(f"{file}: has no row {row!r}; it has {', '.join(table.rows)}")
    answers, seeds = list[Answered](), 1
    for task, cell in table.rows[row].cells.items():
        asked = table.questions.get(task, ())
        if not cell.right or len(cell.right[0]) != len(asked):
            again = "a version that did not keep answers made it; measure the table again"
            raise InputError(f"{file}: which questions of {task} {row} answers rightly is not there: {again}")
        seeds = max(seeds, len(cell.right))
        answers += [Answered(((BY_ID, one),), right == "1") for one, right in zip(asked, cell.right[0], strict=True)]
    if not answers:
        raise InputError(f"{file}: {row} has no figures there")
    rule = f"{table.protocol}, its own answer rule{f', the first of {seeds} seeds' if seeds > 1 else ''}"
    return Side(f"{file}{SEPARATOR}{row}", f"a row of table {table.table}", None, table.model, rule, answers)

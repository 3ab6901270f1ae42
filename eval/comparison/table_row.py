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
    """Return the answers of a row of a table, by its own rule, of all its seeds.

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
    answers = list[Answered]()
    for task, cell in table.rows[row].cells.items():
        asked = table.questions.get(task, ())
        if not cell.right or {len(one) for one in cell.right} != {len(asked)}:
            again = "a version that did not keep answers made it; measure the table again"
            raise InputError(f"{file}: which questions of {task} {row} answers rightly is not there: {again}")
        of_seeds = [tuple(one == "1" for one in each) for each in zip(*cell.right, strict=True)]
        answers += [Answered(((BY_ID, one),), right) for one, right in zip(asked, of_seeds, strict=True)]
    if not answers:
        raise InputError(f"{file}: {row} has no figures there")
    seeds = {len(one.correct) for one in answers}
    if len(seeds) > 1:
        raise InputError(
            f"{file}: {row} has tasks of {' and of '.join(map(str, sorted(seeds)))} seeds; they do not mix"
        )
    rule = f"{table.protocol}, its own answer rule"
    return Side(f"{file}{SEPARATOR}{row}", f"a row of table {table.table}", None, table.model, rule, answers)

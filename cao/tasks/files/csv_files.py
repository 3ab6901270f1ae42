"""Texts in columns: CSV with any usual separator, and plain text with one prompt a line."""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

from cao.errors import InputError
from cao.tasks.files.json_files import json_value
from cao.tasks.files.keys import Keys, plain_key
from cao.tasks.files.rows import MAX_LINE_BYTES, MAX_ROWS, BadRowError, Row, Table, typed

SEPARATORS = ",;\t|"
MAX_CELL_LIST = 20_000
"""Characters of a cell that is read as a list."""

_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_PRINTED = re.compile(r"''\s*''|\barray\(")
"""How numpy writes arrays, where each string is ''; Python would join the strings of one."""
_TURN = re.compile(r"[{,]\s*['\"](role|from)['\"]:")
_ACCEPTED = ({"text", "answer_start"}, {"value", "aliases"})
"""Keys by which an object is known to hold the texts that are right."""


def read_csv(path: Path) -> Table:
    """Return the rows of a CSV file whose first line names the columns; empty cells are absent."""
    lines = _lines(path)
    first = next(lines, "")
    separator = max(SEPARATORS, key=lambda sign: _columns(first, sign))
    table = Table("TSV" if separator == "\t" else "CSV", [], cells=True)
    reader = csv.reader(_with(first, lines), delimiter=separator, strict=True)
    number = 1
    try:
        columns = [name.strip() for name in next(reader, [])]
        repeated = next((name for name in columns if name and columns.count(name) > 1), None)
        if repeated:
            raise BadRowError(f"column {repeated[:40]!r} appears more than once")
        while True:
            number = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return table
            if any(cell.strip() for cell in cells):
                table.rows.append(Row(number, _row(columns, cells)))
    except (csv.Error, BadRowError) as error:
        table.broken = (number, str(error) if isinstance(error, BadRowError) else f"not CSV: {error}")
        return table


def read_lines(path: Path) -> Table:
    """Return the rows of a text file: each line that is not blank is a question without an answer."""
    rows = [Row(n, {"question": line.strip()}) for n, line in enumerate(_lines(path), 1) if line.strip()]
    return Table("text, one prompt a line", rows)


def _columns(line: str, separator: str) -> int:
    """Return how many columns a line has by a separator, none where it cannot be read so."""
    try:
        return len(next(csv.reader([line], delimiter=separator), []))
    except csv.Error:
        return 0


def _with(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        number = 0
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise InputError(f"{path}:{number}: longer than {MAX_LINE_BYTES:,} bytes")
            if number > MAX_ROWS:
                raise InputError(f"{path}: more than {MAX_ROWS:,} lines; give a sample of it")
            yield (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).decode()


def _row(columns: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) != len(columns):
        raise BadRowError(f"{len(cells)} cells, the first line names {len(columns)} columns")
    return {name: _cell(cell) for name, cell in zip(columns, cells, strict=True) if name and cell.strip()}


def _cell(cell: str) -> object:
    """Return a cell's text, or the chat that it holds."""
    value = _held(cell)
    chat = isinstance(value, list) and all(isinstance(turn, dict) and {"role", "from"} & {*turn} for turn in value)
    return value if chat and value else cell


def read_cells(table: Table, keys: Keys) -> None:
    """Read the lists and objects of cells where such things are expected; elsewhere a cell is its text.

    Args:
        table: of a CSV file; it is changed.
        keys: where it has what.

    Raises:
        BadRowError: with the row's number as second argument: a cell holds what cannot be read back.
    """
    lists = {key for each in (keys.choices, keys.wrong) if len(each) == 1 for key in each}
    lists |= {keys.answer} if keys.answer and plain_key(keys.answer) == "answers" else set()
    for row in table.rows:
        for key in (*keys.question, *keys.context, *lists, keys.answer or ""):
            cell = row.values.get(key)
            if not isinstance(cell, str) or not _is_bracketed(cell):
                continue
            value = _held(cell)
            if value is cell and _is_lost(cell, whole=key in lists, answer=key == keys.answer):
                how = "numpy and pandas print lists so; write the file as JSONL or Parquet"
                raise BadRowError(f"{key[:40]!r} is no list or object that can be read ({how})", row.number)
            accepted = isinstance(value, dict) and any(names <= {*value} for names in _ACCEPTED)
            if key in lists or key in keys.context or (key == keys.answer and accepted):
                row.values[key] = value


def _is_lost(cell: str, *, whole: bool, answer: bool) -> bool:
    """Return whether a cell that could not be read was a list, an object or a chat before it was written.

    Args:
        cell: its text.
        whole: whether a list or an object is expected, but for one of texts between bars.
        answer: whether it is an answer, perhaps a text.
    """
    return (whole and "|" not in cell) or (answer and _is_printed(cell)) or bool(_TURN.search(cell))


def _is_bracketed(cell: str) -> bool:
    text = cell.strip()
    return text.startswith(("[", "{")) and text.endswith(("]", "}"))


def _is_printed(cell: str) -> bool:
    return bool(_PRINTED.search(_STRING.sub("''", cell)))


def _held(cell: str) -> object:
    """Return the list or object that a cell holds as JSON or as Python writes one; its text where it holds none."""
    text = cell.strip()
    if not _is_bracketed(text) or len(text) > MAX_CELL_LIST or text.count("[") + text.count("{") > 100:
        return cell
    try:
        return json_value(text)
    except BadRowError:
        pass
    try:
        value = cell if _is_printed(text) else typed(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return cell
    return value if isinstance(value, list | dict) else cell

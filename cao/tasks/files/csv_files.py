"""Texts in columns: CSV with any usual separator, and plain text with one prompt a line."""

import ast
import csv
from collections.abc import Iterator
from pathlib import Path

from cao.errors import InputError
from cao.tasks.files.json_files import json_value
from cao.tasks.files.rows import MAX_LINE_BYTES, MAX_ROWS, BadRowError, Row, Table, typed

SEPARATORS = ",;\t|"
MAX_CELL_LIST = 20_000
"""Characters of a cell that is read as a list."""


def read_csv(path: Path) -> Table:
    """Return the rows of a CSV file whose first line names the columns; empty cells are absent."""
    lines = _lines(path)
    first = next(lines, "")
    separator = max(SEPARATORS, key=lambda sign: _columns(first, sign))
    table = Table("TSV" if separator == "\t" else "CSV", [])
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
            try:
                yield (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).decode()
            except UnicodeDecodeError as error:
                raise InputError(f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line)") from None


def _row(columns: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) != len(columns):
        raise BadRowError(f"{len(cells)} cells, the first line names {len(columns)} columns")
    return {name: _cell(cell) for name, cell in zip(columns, cells, strict=True) if name and cell.strip()}


def _cell(cell: str) -> object:
    """Return a cell's text, or the list or object that it holds as JSON or as Python writes one."""
    text = cell.strip()
    if not text.startswith(("[", "{")) or len(text) > MAX_CELL_LIST or text.count("[") + text.count("{") > 100:
        return cell
    try:
        return json_value(text)
    except BadRowError:
        pass
    try:
        value = typed(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return cell
    return value if isinstance(value, list | dict) else cell

"""JSON: one object a line, an array of objects or of texts, or an object that holds rows (SQuAD's own file, too)."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

from cao.errors import InputError
from cao.tasks.files.rows import MAX_LINE_BYTES, MAX_ROWS, PARTS, BadRowError, Row, Table

MAX_DIGITS = 30
LISTS = ("data", "rows", "questions", "examples", "instances", *PARTS)
"""Keys of an object under which a file's rows may lie; the first one there counts."""
_SPACE = re.compile(r"[\s,]*")


def read_jsonl(path: Path) -> Table:
    """Return the rows of a file with one object a line; blank lines and a byte-order mark do not count."""
    table = Table("JSONL", [])
    with path.open("rb") as stream:
        number = 0
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if number > MAX_ROWS:
                raise InputError(f"{path}: more than {MAX_ROWS:,} lines; give a sample of it")
            try:
                if len(raw) > MAX_LINE_BYTES:
                    raise InputError(f"{path}:{number}: longer than {MAX_LINE_BYTES:,} bytes")
                content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if content.strip():
                    table.rows.append(Row(number, _object(json_value(content.decode()))))
            except (BadRowError, InputError) as error:
                table.broken = (number, str(error).removeprefix(f"{path}:{number}: "))
                break
    return table


def read_json(path: Path) -> Table:
    """Return the rows of a JSON file: an array, an object that holds one, or one object a line."""
    text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        return _array(text, start)
    if text[start : start + 1] == "{" and _first_line_is_whole(text):
        return read_jsonl(path)
    try:
        held = _object(json_value(text))
    except BadRowError as error:
        raise InputError(f"{path}:1: {error}") from None
    lists = {key: rows for key, value in held.items() if (rows := _rows_of(value)) is not None}
    there = [key for key in LISTS if key in lists]
    chosen = next((key for key in there if lists[key]), there[0] if there else None)
    if chosen is None:
        raise InputError(f"{path}:1: expected an array of objects, or an object that holds one under 'data'")
    others = ", ".join(key for key in lists if key != chosen) if chosen in PARTS else ""
    notes = [f"the part {chosen} was read; save another one as a file to read that ({others})"] if others else []
    return Table("JSON", [Row(number, row) for number, row in enumerate(lists[chosen], 1)], notes=notes, unit="row ")


def _first_line_is_whole(text: str) -> bool:
    """Return whether the first line is an object and not all there is: such a file has an object a line."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(_DECODER.decode(first), dict)
    except (ValueError, RecursionError):
        return False


def _array(text: str, start: int) -> Table:
    """Read an array object by object, so that each has the line on which it begins."""
    table, at, line, seen = Table("JSON array", []), start + 1, text.count("\n", 0, start + 1) + 1, start + 1
    while True:
        space = _SPACE.match(text, at)
        assert space  # it matches nothing, too
        at = space.end()
        line, seen = line + text.count("\n", seen, at), at
        try:
            if text.count(",", space.start(), at) > bool(table.rows):
                raise BadRowError("not JSON: a comma too many")
            if at >= len(text):
                raise BadRowError("not JSON: the array is not closed")
            if text[at] == "]":
                if text[at + 1 :].strip():
                    raise BadRowError("not JSON: more behind the array")
                return table
            if table.rows and "," not in text[space.start() : at]:
                raise BadRowError("not JSON: a comma is missing")
            value, end = _decode_at(text, at)
            if end - at > MAX_LINE_BYTES:
                raise BadRowError(f"longer than {MAX_LINE_BYTES:,} characters")
            table.rows.append(Row(line, {"question": value} if isinstance(value, str) else _object(value)))
            at = end
        except BadRowError as error:
            table.broken = (line, str(error))
            return table


def _rows_of(found: object) -> list[dict[str, object]] | None:
    """Return rows where a value is some: a list of objects, of the data viewer's rows, or of SQuAD's articles."""
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        return None
    if found and all(isinstance(each.get("paragraphs"), list) for each in found):
        return list(_squad(found))
    return [each["row"] if isinstance(each.get("row"), dict) else each for each in found]


def _squad(articles: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    for article in articles:
        paragraphs = article["paragraphs"]
        for paragraph in paragraphs if isinstance(paragraphs, list) else []:
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            for question in questions if isinstance(questions, list) else []:
                if isinstance(question, dict):
                    yield {"context": paragraph.get("context"), **question}


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadRowError("expected one JSON object with question, choices and answer")
    return value


def json_value(text: str) -> object:
    """Return what a JSON text says, as the rows of a file are read.

    Raises:
        BadRowError: it is no JSON.
    """
    space = len(text) - len(text.lstrip())
    value, end = _decode_at(text, space)
    if text[end:].strip():
        raise BadRowError(f"not JSON: Extra data (column {end + 1})")
    return value


def _decode_at(text: str, at: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except BadRowError:
        raise
    except json.JSONDecodeError as error:
        raise BadRowError(f"not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise BadRowError("not JSON that can be read: nested too deep") from None


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise BadRowError(f"key {next(key for key in keys if keys.count(key) > 1)[:40]!r} appears more than once")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise BadRowError(f"{name} is not a number that JSON knows")


def _number(text: str) -> Decimal:
    """Return a JSON number as it is written: floats would round it, and integers have no bound."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("Infinity")
    if not number.is_finite() or len(text) > MAX_DIGITS or abs(number.adjusted()) > MAX_DIGITS:
        raise BadRowError(f"the number {text[:MAX_DIGITS]}… has more than {MAX_DIGITS} digits")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_int=_number, parse_float=_number
)

"""Rows as prompts: the text that a run on them shows, and what else of a question is there; none needs an answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cao.errors import InputError
from cao.tasks.files.answers import understood
from cao.tasks.files.choices import choices_of
from cao.tasks.files.keys import KeyMap, Keys, find_keys, turns_key
from cao.tasks.files.rows import BadRowError, Row, Table
from cao.types import Example


class _Alone(Table):
    """A row that is named by its own place."""

    def place(self, path: Path, number: int) -> str:
        """Return the place, which stands where a file's path does."""
        return str(path)


def keys_of(rows: Sequence[dict[str, object]]) -> Keys:
    """Return which key holds what; chats are unfolded, and keys that look misspelt are not read."""
    return find_keys(Table("", [Row(number, row) for number, row in enumerate(rows, 1)]), KeyMap(), strict=False)


def labelled(rows: Sequence[dict[str, object]], keys: Keys) -> dict[str, Example] | None:
    """Return the questions with choices and a right answer, by id, as a run on these rows reads them.

    Args:
        rows: chats are unfolded; those without choices or an answer do not count.
        keys: which key holds what.

    Returns:
        The questions, None where a run would refuse them.
    """
    if not keys.answer:
        return {}
    first, *rest = keys.question or ("question",)
    asked = [row for row in rows if _has(row, keys.choices) and None not in (row.get(first), row.get(keys.answer))]
    others = (*rest, *keys.choices, *keys.context, *_turns(keys.context), keys.answer)
    # 'prompt' is as much a name of our own as 'question'
    values = [{"question": row[first]} | {key: row.get(key) for key in others} for row in asked]
    given = KeyMap(
        {"question": ("question", *rest), "choices": keys.choices, "answer": (keys.answer,), "context": keys.context}
    )
    table = Table("", [Row(number, each) for number, each in enumerate(values, 1)])
    try:
        return {example.id: example for example in understood(Path(), table, given)[0]} if asked else {}
    except InputError:
        return None


def example_of(row: dict[str, object], keys: Keys, where: str) -> Example:
    """Return a row's question as a run on its file shows it.

    Its choices are there where they can be read, its answer where the row alone tells which of them is right.

    Args:
        row: with a question; chats are unfolded.
        keys: which key holds what.
        where: its place, for the message.

    Raises:
        InputError: the context is no text, or choices or an answer that are named so cannot be read.
    """
    choices = keys.choices if _has(row, keys.choices) else ()
    answer = (keys.answer,) if choices and keys.answer and row.get(keys.answer) is not None else ()
    context = tuple(key for key in keys.context if _is_text(row.get(key)) or (key == "context" and row.get(key)))
    question = (*keys.question[:1], *(key for key in keys.question[1:] if _is_text(row.get(key))))
    given = KeyMap(
        {"question": question, "choices": choices, "answer": answer, "context": context},
        base=0 if answer == ("answer",) else None,
    )
    values = {key: row.get(key) for key in (*question, *context, *_turns(context), *choices, *answer)}
    try:
        return understood(Path(where), _Alone("", [Row(1, values)]), given)[0][0]
    except InputError:
        stated = choices == ("choices",) and answer in ((), ("answer",)) and not _repeats(row, keys)
        if stated or not choices:
            raise
    return example_of(row, replace(keys, answer=None) if answer else replace(keys, choices=()), where)


def _turns(context: Sequence[str]) -> list[str]:
    """Return the keys of the turns that stand behind those of a context."""
    return list(filter(None, map(turns_key, context)))


def _repeats(row: dict[str, object], keys: Keys) -> bool:
    """Return whether a row lists a choice twice, which a run leaves out."""
    try:
        choices = choices_of(row, keys)[0]
    except BadRowError:
        return False
    return len(set(choices)) < len(choices)


def _has(row: dict[str, object], keys: Sequence[str]) -> bool:
    return any(row.get(key) is not None for key in keys)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())

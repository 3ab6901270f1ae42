"""Rows become questions: what is asked, among which choices, and which answer is right.

An answer is an index, a letter, a choice's own label, its text, or, without choices, a free text. What an index counts
from is found out from the whole file: from 1 where some answer is the number of choices and none is 0. A choice
that a row leaves out counts, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from cao.errors import InputError
from cao.reading import FileReading
from cao.tasks.base import example_id, read_id
from cao.tasks.files.chats import turns_of, unfolded
from cao.tasks.files.choices import choices_of, classes_of, is_label
from cao.tasks.files.csv_files import read_cells
from cao.tasks.files.free_text import accepted_texts, is_absent, same_answer
from cao.tasks.files.keys import SAMPLE_KEYS, KeyMap, Keys, find_keys, listed
from cao.tasks.files.labels import LabelRule
from cao.tasks.files.rows import BadRowError, Row, Table, text_of
from cao.types import Example, Turns


@dataclass(frozen=True)
class Asked:
    """A row that was understood up to its answer.

    Attributes:
        number: of the row.
        question, context: texts.
        choices: texts, "" where the row leaves one out; none where the answer is free.
        labels: of the choices, where the file states them.
        answer: as the file has it.
        turns: before the question, where it is of a chat.
    """

    number: int
    question: str
    context: str
    choices: tuple[str, ...]
    labels: tuple[str, ...]
    answer: object
    turns: Turns = ()


def understood(path: Path, table: Table, given: KeyMap) -> tuple[list[Example], FileReading]:
    """Return the questions of a table, each once, and how it was read.

    Args:
        path: the file, for messages.
        table: its rows.
        given: what the user said of its keys.

    Raises:
        InputError: a row is wrong, or there is none.
    """
    _unfold(table)
    if not table.rows and table.broken is None:
        raise InputError(f"{path}: the file has no questions; each has a question, and perhaps choices and an answer")
    number = table.rows[0].number if table.rows else 1
    try:
        keys = find_keys(table, given) if table.rows else Keys(("question",))
        if table.rows and not keys.question:
            there = listed(dict.fromkeys(key for row in table.rows for key in row.values))
            how = "--map question=KEY, with answer=KEY and choices=KEY where they have other names, too"
            raise BadRowError(f"'question' is missing; name its key with {how} (keys: {there})")
        if table.cells:
            read_cells(table, keys)
        reader = _Reader(table, keys, given)
        for row in table.rows:
            number = row.number
            reader.ask(row)
        number = table.rows[0].number if table.rows else 1
        reader.settle()
        for asked in reader.asked:
            number = asked.number
            reader.take(asked)
    except BadRowError as error:
        place = error.args[1] if len(error.args) > 1 else number
        raise InputError(f"{table.place(path, place)}: {error.args[0]}") from None
    if table.broken is not None:
        raise InputError(f"{table.place(path, table.broken[0])}: {table.broken[1]}")
    if not reader.kept:
        raise InputError(f"{path}: no row of {len(table.rows)} can be used; {'; '.join(reader.notes())}")
    return [example for _, example in reader.kept.values()], reader.reading()


def _unfold(table: Table) -> None:
    """Turn chats into texts; rows behind one that cannot be read wait for the rows before it to be judged."""
    rows: list[Row] = []
    for row in table.rows:
        try:
            rows.append(Row(row.number, unfolded(row.values)))
        except BadRowError as error:
            table.broken = (row.number, str(error))
            break
    table.rows = rows


class _Reader:
    """Reads the rows of one file, in two passes: what is asked, then what is right."""

    def __init__(self, table: Table, keys: Keys, given: KeyMap) -> None:
        self.table, self.keys, self.given = table, keys, given
        self.asked: list[Asked] = []
        self.kept: dict[str, tuple[int, Example]] = {}
        self.rule = LabelRule()
        names = table.names.get(keys.answer or "", ())
        self.names = tuple(name.strip() for name in names)
        self.absent = partial(is_absent, named=bool(names), label=is_label(keys))
        answers = [row.values.get(keys.answer) for row in table.rows] if keys.answer else []
        answers = [answer for answer in answers if not self.absent(answer)]
        self.labelled = bool(answers)
        self.classes = classes_of(answers, keys, self.names) if self.labelled else ()
        self._left_out: dict[str, list[int]] = {}

    def ask(self, row: Row) -> None:
        """Understand a row up to its answer."""
        keys, values = self.keys, row.values
        question = self._texts(row, keys.question or ("question",))
        around = [key for key in keys.context if values.get(key) is not None]
        context = self._texts(row, around, required=False)
        answer = values.get(keys.answer) if keys.answer else None
        if self.labelled and self.absent(answer):
            self._leave("had no answer", row.number)
            return
        if self.labelled and self._of_sample and str(values.get("correct")).casefold() == "false":
            self._leave("held a reply that is marked as wrong", row.number)
            return
        choices, labels = (self.classes, ()) if self.classes else choices_of(values, keys)
        twice = next((choice for choice in choices if choice and choices.count(choice) > 1), None)
        if twice is not None and not keys.own:
            self._leave("listed a choice twice", row.number)
            return
        if twice is not None:
            raise BadRowError(f"the choice {twice[:40]!r} appears more than once")
        self.asked.append(Asked(row.number, question, context, choices, labels, answer, turns_of(values, around)))

    @property
    def _of_sample(self) -> bool:
        """Whether an answer is one of many good ones, such as a model's reply."""
        return (self.keys.answer or "").casefold().endswith(SAMPLE_KEYS)

    def _texts(self, row: Row, keys: Sequence[str], *, required: bool = True) -> str:
        """Return the texts of some keys, one below the other; the first one must be there."""
        parts = []
        for place, key in enumerate(keys):
            value = row.values.get(key)
            if key not in row.values and place == 0 and required:
                raise BadRowError(f"{key!r} is missing")
            if place == 0 or (value is not None and value != ""):
                parts.append(text_of(value, repr(key)) if required or value != "" else "")
        return "\n\n".join(filter(None, parts))

    def _leave(self, why: str, number: int) -> None:
        self._left_out.setdefault(why, []).append(number)

    def settle(self) -> None:
        """Find out, from all rows, how answers name choices."""
        if self.labelled:
            by_text = self.given.by_text or bool(self.keys.wrong) or bool(self.classes and not self.names)
            answers = [(one.answer, one.choices, one.labels) for one in self.asked if one.choices]
            self.rule = LabelRule.of(
                answers, base=self.given.base, own=self.keys.own, by_text=by_text, names=self.names
            )

    def take(self, asked: Asked) -> None:
        """Judge a row's answer and keep its question, once."""
        example = self._example(asked)
        first = next(iter(self.kept.values()), None)
        if first and bool(first[1].choices) != bool(example.choices):
            this, that = ("has choices", "none") if example.choices else ("has no choices", "some")
            raise BadRowError(f"{this}, line {first[0]} has {that}; one file holds one kind of question")
        key = read_id(example.context, example.question, *sorted(example.choices))
        number, before = self.kept.setdefault(key, (asked.number, example))
        if not self.labelled or same_answer(before, example):
            return
        if not example.choices and self._of_sample:
            self._leave("repeated a prompt with another reply", asked.number)
            return
        raise BadRowError(
            f"the question of line {number} again with another answer "
            f"({example.gold_text[:40]!r}, there {before.gold_text[:40]!r})"
        )

    def _example(self, asked: Asked) -> Example:
        question, context, choices = asked.question, asked.context, tuple(filter(None, asked.choices))
        identity = (context, question, *choices) if choices else (context, question)
        example = Example(
            id=read_id(*identity),
            question=question,
            choices=choices,
            context=context,
            group=example_id(" ".join((context, question, *sorted(choices)))),
            labelled=False,
            turns=asked.turns,
        )
        if not self.labelled:
            return example
        if choices:
            gold = asked.choices[self.rule.index(asked.answer, asked.choices, asked.labels)]
            told = {"answer": choices.index(gold), "gold_text": gold}
        else:
            gold, *others = accepted_texts(asked.answer)
            told = {"gold_text": gold, "accepted": tuple(others)}
        return example.model_copy(update={**told, "labelled": True})

    def notes(self) -> list[str]:
        """Return what a person should know of the rows, in sentences without their full stop."""
        told = list(self.table.notes)
        for why, numbers in self._left_out.items():
            unit = self.table.unit or "line "
            many, first = len(numbers), f"{unit}{numbers[0]}"
            one, several = (
                f"1 row was left out because it {why} ({first})",
                f"{many} rows were left out because they {why}",
            )
            told.append(one if many == 1 else f"{several} (the first one is {first})")
        kept = [example for _, example in self.kept.values()] if self.labelled else []
        gold = {example.gold_text for example in kept if not example.choices}
        if len(gold) == 1 and len(self.kept) > 1:
            told.append(
                f"every answer is {gold.pop()[:40]!r}: whoever always says so is right, and nothing can be told apart"
            )
        return told

    def reading(self) -> FileReading:
        """Return how the file was read."""
        free = "numbers" if self._numbers() else "texts"
        choices = any(example.choices for _, example in self.kept.values())
        return FileReading(
            format=self.table.format,
            rows=len(self.table.rows),
            questions=len(self.kept),
            keys=self.keys.named(),
            guessed=self.keys.guessed,
            answers="none" if not self.labelled else self.rule.words() if choices else free,
            ignored=self.keys.ignored,
            notes=tuple(self.notes()),
        )

    def _numbers(self) -> bool:
        return all(isinstance(asked.answer, Decimal) for asked in self.asked)

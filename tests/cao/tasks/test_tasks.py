"""The table of tasks, how a task is found, and what makes two questions one."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cao.tasks
from cao.errors import InputError
from cao.tasks import (
    TASKS,
    get_task,
    sources,
)
from cao.tasks.base import Task, choice_example, exact_id, example_id
from cao.types import ID_PATTERN, AnswerProtocol, Example


def test_every_task_of_the_folder_is_in_the_table() -> None:
    found = {
        id(value)
        for info in pkgutil.iter_modules(cao.tasks.__path__)
        for value in vars(importlib.import_module(f"cao.tasks.{info.name}")).values()
        if isinstance(value, Task)
    }
    assert found == {id(task) for task in TASKS.values()}


def test_names_are_safe_and_are_the_keys() -> None:
    assert all(ID_PATTERN.match(name) and task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_descriptions_are_paragraphs_of_three_to_five_sentences(task: Task) -> None:
    assert "\n" not in task.description
    assert "  " not in task.description
    assert 3 <= task.description.count(". ") + 1 <= 5


def test_importing_the_table_imports_nothing_slow() -> None:
    code = "import sys, cao.tasks; print([m for m in ('torch', 'datasets', 'numpy', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_is_found_by_name() -> None:
    assert get_task("gsm8k") is TASKS["gsm8k"]


@pytest.mark.parametrize(("asked", "said"), [("gsm8", "gsm8k"), ("ARC-easy", "arc_easy"), ("zzz", "hellaswag")])
def test_an_unknown_name_gets_the_close_ones_and_the_way_to_give_a_file(asked: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        get_task(asked)
    assert "FILE.jsonl" in str(caught.value)


@pytest.mark.parametrize("asked", ["missing.jsonl", "x" * 5000, "\0", ""])
def test_odd_names_are_bad_input(asked: str) -> None:
    with pytest.raises(InputError):
        get_task(asked)


def test_a_file_of_any_name_is_the_users_task(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text('{"question": "1 + 1?", "answer": 2}\n')
    assert get_task(str(path)).name == "mine"


def test_ids_ignore_spacing_and_groups_ignore_case_and_punctuation() -> None:
    one = choice_example("What is  it?", ["x", "y"], 0)
    other = choice_example(" what is IT ", ["x", "y"], 0)
    assert one.id == choice_example("What is it?", ["x ", "y"], 1).id
    assert one.id != other.id
    assert one.group == other.group


def test_formulas_that_differ_in_a_sign_have_different_ids_and_one_group() -> None:
    assert exact_id("3 + 4") != exact_id("3 - 4")
    assert example_id("3 + 4") == example_id("3 - 4")


def test_usable_drops_repeats_and_questions_with_one_choice_twice() -> None:
    good, again = choice_example("q", ["x", "y"], 0), choice_example("q", ["x", "y"], 0)
    assert sources.usable([good, again, choice_example("r", ["x", "x"], 0)]) == [good]


@pytest.mark.parametrize(
    ("task", "choices", "protocol", "accuracy"),
    [
        ("boolq", ("a", "b"), "likelihood", 0.5),
        ("boolq", ("a", "b"), "generate", 0.5),
        ("boolq", (), "likelihood", 0.0),
        ("boolq", (), "generate", 0.0),
        ("gsm8k", ("1", "2", "3", "4"), "likelihood", 0.25),
        ("gsm8k", ("1", "2", "3", "4"), "generate", 0.0),  # whose prompt shows no choices
    ],
)
def test_guessing_draws_lots_among_what_is_shown(
    task: str, choices: tuple[str, ...], protocol: AnswerProtocol, accuracy: float
) -> None:
    example = Example(id="q", question="?", choices=choices, answer=0 if choices else -1, gold_text="a")
    assert get_task(task).guessing(example, protocol) == accuracy

"""Every task has a subject, and a source that shares it is found."""

from agent.train.generator.presets import REPORTED
from cao.tasks import PRACTICE, TASKS
from eval.generation.subjects import SUBJECTS, sharing, subjects_of


def test_every_task_has_a_subject_and_every_subject_knows_its_tasks() -> None:
    known = {*TASKS, *PRACTICE}
    assert {task for task in known if not subjects_of(task)} == set()
    assert {task for tasks in SUBJECTS.values() for task in tasks} == known


def test_a_source_of_the_same_subject_is_found() -> None:
    assert sharing("gsm8k", ["mmlu_history", "mmlu_college_mathematics", "math"]) == (
        "mmlu_college_mathematics",
        "math",
    )
    assert sharing("social_iqa", ["piqa", "commonsense_qa"]) == ("commonsense_qa",)
    assert sharing("medqa", ["gsm8k"]) == sharing("my own file", ["gsm8k"]) == ()
    assert all(subjects_of(task) for task in REPORTED)

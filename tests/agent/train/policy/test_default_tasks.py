"""What the policy practises on by default: no generator that serves it has seen its questions."""

import json

import pytest

from agent.loop.trained import find_trained
from agent.train.policy.options import DEFAULT_HELD_OUT, DEFAULT_TASKS
from cao.tasks import get_task
from cao.tasks.same_problems import saw
from cao.tasks.splits import practice
from tools.pretrained import index_of


def test_there_are_forty_tasks_and_none_of_them_is_held_out_in_other_words() -> None:
    assert len(set(DEFAULT_TASKS)) == len(DEFAULT_TASKS) >= 40
    assert not [task for task in DEFAULT_TASKS if saw(task, DEFAULT_HELD_OUT)]


@pytest.mark.integration
@pytest.mark.parametrize("name", DEFAULT_TASKS)
def test_a_task_is_practised_with_an_adapter_that_does_not_know_its_questions(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    [model] = json.loads(index_of(None).read_text(encoding="utf-8"))["models"]
    drawn = practice(get_task(name), support=32, reward=200, seed=0)
    asked = [question.prompt for question in (*drawn.support, *drawn.reward)]
    found = find_trained(model, name, "auto", align=False, questions=asked)
    assert found.variant.startswith("fold-")
    assert not found.saw_task
    assert not found.saw_questions

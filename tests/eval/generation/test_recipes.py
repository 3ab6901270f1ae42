"""Which prompts adapters are made from."""

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from cao.tasks import TASKS
from cao.tasks.splits import choose, part, split
from eval.generation.recipes import REPORTED, others, shuffled


@pytest.mark.parametrize("task", [*REPORTED, "sciq"])
def test_wrong_prompts_are_other_tasks_all_of_them_different(task: str) -> None:
    for n in range(1, len(REPORTED)):
        found = others(task, n)
        assert len({task, *found}) == n + 1
        assert set(found) <= set(REPORTED)


def test_the_arc_tasks_are_not_each_others_wrong_prompts() -> None:
    assert "arc_easy" not in others("arc_challenge", 3)
    assert "arc_challenge" not in others("arc_easy", 3)


@bounded(max_examples=50)
@given(st.lists(st.text("ab c", min_size=1), min_size=1, max_size=6), st.integers(0, 3))
def test_shuffled_prompts_hold_the_same_words_in_the_same_lengths(prompts: list[str], seed: int) -> None:
    found = shuffled(prompts, seed)
    assert [len(text.split()) for text in found] == [len(text.split()) for text in prompts]
    assert sorted(" ".join(found).split()) == sorted(" ".join(prompts).split())
    assert found == shuffled(prompts, seed)


def test_a_seed_chooses_what_a_run_of_that_seed_chooses() -> None:
    splits = split(TASKS["arc_easy"], support=32, reward=96, test=200, seed=0)
    drawn = choose(part(TASKS["arc_easy"], "support"), 32, "0:support")
    assert [example.id for example in drawn] == [example.id for example in splits.support]
    drawn = choose(part(TASKS["arc_easy"], "test"), 200, "0:test")
    assert [example.id for example in drawn] == [example.id for example in splits.test]

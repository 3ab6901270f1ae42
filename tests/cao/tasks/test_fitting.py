"""Sizes that fit a small file: the stated rule, its least, and what is stated by the user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks.base import Task, example_id
from cao.tasks.fitting import LEAST_FITTED, fitting_sizes
from cao.tasks.splits import DEFAULT_SIZES, Part, part, split
from cao.types import Example

ALL: tuple[Part, ...] = ("support", "reward", "test")


def task(count: int) -> Task:
    examples = [
        Example(id=f"{n:04}", question=f"Q{n}?", choices=("a", "b"), answer=n % 2, group=example_id(f"g{n}"))
        for n in range(count)
    ]
    return Task(name="t", title="t", source="t", load=lambda: examples, has_train=False)


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        (5000, (32, 96, 200)),
        (328, (32, 96, 200)),
        (327, (32, 96, 199)),
        (300, (32, 96, 172)),
        (224, (32, 96, 96)),
        (140, (20, 60, 60)),
        (56, (8, 24, 24)),
        (55, None),
    ],
)
def test_the_rule_by_hand(total: int, sizes: tuple[int, int, int] | None) -> None:
    fitted = fitting_sizes(total, DEFAULT_SIZES, ALL)
    assert (fitted and tuple(fitted.values())) == sizes


@given(st.integers(1, 400), st.sets(st.sampled_from(ALL)))
def test_fitting_sizes_never_ask_for_more_than_there_is(total: int, free: set[Part]) -> None:
    fitted = fitting_sizes(total, DEFAULT_SIZES, free)
    if fitted is None:
        kept = sum(size for part, size in DEFAULT_SIZES.items() if part not in free)
        assert total < kept + sum(LEAST_FITTED[part] for part in free) + 8
        return
    assert sum(fitted.values()) <= total
    assert all(fitted[part] == DEFAULT_SIZES[part] for part in ALL if part not in free)
    assert all(LEAST_FITTED[part] <= fitted[part] <= DEFAULT_SIZES[part] for part in ALL)


def test_a_small_file_is_dealt_out_in_the_sizes_that_fit() -> None:
    splits = split(task(140), support=32, reward=96, test=200, seed=0, free=ALL)
    assert splits.sizes == {"support": 20, "reward": 60, "test": 60}
    assert len(part(task(140), "test")) == 60  # eval.score reads the same part
    assert {e.id for e in splits.test} == {e.id for e in part(task(140), "test")}


def test_a_stated_size_is_kept_and_the_others_give() -> None:
    splits = split(task(100), support=32, reward=96, test=50, seed=0, free=("support", "reward"))
    assert splits.sizes == {"support": 12, "reward": 38, "test": 50}


def test_too_small_a_file_is_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(InputError, match=r"t has 55 different questions; 56 are needed at least \(8 support, 24 rew"):
        split(task(55), support=32, reward=96, test=200, seed=0, free=ALL)
    assert split(task(12), support=2, reward=4, test=6, seed=0).sizes["test"] == 6

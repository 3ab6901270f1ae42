"""Disjoint parts: fixed thresholds for built-in tasks, shares by demand for a user's file."""

import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks import TASKS
from cao.tasks.base import Task, choice_example, normalise
from cao.tasks.splits import DEFAULT_SIZES, SHARES, Splits, part, position, split
from cao.types import Example


def _examples(count: int, groups: int | None = None) -> list[Example]:
    named = [f"g{i % groups}" if groups else "" for i in range(count)]
    return [choice_example(f"question {i}", ["x", "y"], i % 2, group=group) for i, group in enumerate(named)]


def _task(examples: list[Example], *, has_train: bool = True) -> Task:
    return Task(name="t", title="t", source="t", load=lambda: examples, has_train=has_train)


def _names(examples: list[Example]) -> set[str]:
    return {example.id for example in examples}


def _groups(examples: list[Example]) -> set[str]:
    return {example.group or example.id for example in examples}


def _assert_apart(splits: Splits) -> None:
    sets = [splits.support, splits.reward, splits.test]
    for of in (_names, _groups):
        found = [of(chosen) for chosen in sets]
        assert sum(map(len, found)) == len(set().union(*found))
    assert all(len(_names(chosen)) == len(chosen) for chosen in sets)


def _refused(task: Task, sizes: dict[str, int]) -> str:
    """Return why a task cannot be divided so, or nothing."""
    try:
        split(task, **sizes, seed=0)
    except InputError as error:
        return str(error)
    return ""


# Built-in tasks


def test_the_parts_hold_every_example_once() -> None:
    examples = _examples(500, groups=120)
    parts = {name: part(_task(examples), name) for name in SHARES}
    assert sorted(e.id for chosen in parts.values() for e in chosen) == sorted(e.id for e in examples)
    groups = [_groups(chosen) for chosen in parts.values()]
    assert sum(map(len, groups)) == 120


def test_shares_are_those_stated() -> None:
    examples = _examples(8_000)
    for name, share in SHARES.items():
        assert len(part(_task(examples), name)) / 8_000 == pytest.approx(share, abs=0.02)


def test_an_example_is_in_the_same_part_whatever_the_task_and_its_neighbours() -> None:
    examples = _examples(300)
    other = replace(_task(examples[100:]), name="other")
    for name in SHARES:
        assert _names(part(other, name)) <= _names(part(_task(examples), name))


def test_a_place_is_the_same_on_every_machine() -> None:
    assert position("trophy|suitcase") == pytest.approx(0x325E421657382 / 16**13)


@settings(max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 25), st.integers(1, 50), st.integers(1, 80)),
    seeds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    groups=st.sampled_from([None, 400]),
)
def test_splits_are_disjoint_repeatable_and_stay_in_their_parts(
    sizes: tuple[int, int, int], seeds: tuple[int, int], groups: int | None
) -> None:
    task = _task(_examples(600, groups))
    support, reward, test = sizes
    one, again, other = (split(task, support=support, reward=reward, test=test, seed=s) for s in (seeds[0], *seeds))
    assert one == again
    assert (len(one.support), len(one.reward), len(one.test)) == sizes
    for chosen in (one, other):
        _assert_apart(chosen)
        assert _names(chosen.support) <= _names(part(task, "support"))
        assert _names(chosen.reward) <= _names(part(task, "reward"))
        assert _names(chosen.test) <= _names(part(task, "test"))


def test_seeds_choose_differently_and_a_larger_size_keeps_the_smaller() -> None:
    task = _task(_examples(600))
    small = split(task, support=10, reward=20, test=30, seed=1)
    large = split(task, support=20, reward=40, test=60, seed=1)
    assert large.reward[:20] == small.reward
    assert split(task, support=10, reward=20, test=30, seed=2).reward != small.reward


def test_the_order_of_the_source_does_not_matter() -> None:
    examples = _examples(300)
    sizes = {"support": 10, "reward": 20, "test": 30, "seed": 0}
    assert split(_task(examples), **sizes) == split(_task(examples[::-1]), **sizes)


def test_too_few_examples_in_a_part_names_the_sizes_and_the_flags() -> None:
    with pytest.raises(InputError, match=r"support \d+ \(asked 5\), reward \d+ \(asked 500\).*; give --reward \d+$"):
        split(_task(_examples(200)), support=5, reward=500, test=5, seed=0)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, -5)])
def test_sizes_below_one_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        split(_task(_examples(50)), support=sizes[0], reward=sizes[1], test=sizes[2], seed=0)


# Tasks without a train part


@given(
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 30), st.integers(1, 40)),
    extra=st.integers(0, 60),
    seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_any_file_with_enough_rows_is_enough(sizes: tuple[int, int, int], extra: int, seeds: tuple[int, int]) -> None:
    task = _task(_examples(sum(sizes) + extra), has_train=False)
    support, reward, test = sizes
    one, again, other = (split(task, support=support, reward=reward, test=test, seed=s) for s in (seeds[0], *seeds))
    assert one == again
    assert (len(one.support), len(one.reward), len(one.test)) == sizes
    _assert_apart(one)
    assert not _names(one.test) & (_names(other.support) | _names(other.reward))
    assert not _names(one.reward) & (_names(other.support) | _names(other.test))


@given(groups=st.integers(30, 90))
def test_groups_of_a_file_stay_together(groups: int) -> None:
    splits = split(_task(_examples(180, groups), has_train=False), support=10, reward=20, test=30, seed=0)
    _assert_apart(splits)


def test_one_row_too_few_says_how_many_there_are() -> None:
    wanted = r"t has 59 different questions, 10 \+ 20 \+ 30 = 60 are asked for; give --support 9 --reward 19 --test 31$"
    with pytest.raises(InputError, match=wanted):
        split(_task(_examples(59), has_train=False), support=10, reward=20, test=30, seed=0)


@settings(max_examples=25)
@given(
    count=st.integers(3, 340),
    groups=st.sampled_from([None, 2, 3, 40]),
    has_train=st.booleans(),
    asked=st.sampled_from([(32, 96, 200), (1, 2, 5000), (400, 2, 2)]),
)
def test_sizes_that_a_refusal_names_are_taken(
    count: int, groups: int | None, has_train: bool, asked: tuple[int, int, int]
) -> None:
    task = _task(_examples(count, groups), has_train=has_train)
    sizes = dict(zip(("support", "reward", "test"), asked, strict=True))
    refused = _refused(task, sizes)
    named = {name: int(size) for name, size in re.findall(r"--(\w+) (\d+)", refused)}
    if refused and not named:
        assert refused.endswith("a run needs 1 + 2 + 2 at least")
        return
    sizes |= named
    splits = split(task, **sizes, seed=0)
    assert {name: len(getattr(splits, name)) for name in sizes} == sizes
    for name, most in splits.available.items():
        more = {**sizes, name: most}
        assert len(getattr(split(task, **more, seed=0), name)) == most
        assert groups or _refused(task, {**more, name: most + 1})


def test_groups_that_are_too_large_are_named_as_a_shortage() -> None:
    with pytest.raises(InputError, match="too few questions in a part"):
        split(_task(_examples(60, groups=2), has_train=False), support=10, reward=20, test=30, seed=0)


def test_a_file_has_no_train_part_and_its_others_are_those_of_the_default_sizes() -> None:
    task = _task(_examples(400), has_train=False)
    with pytest.raises(InputError, match="nothing aside for training"):
        part(task, "train")
    splits = split(task, support=32, reward=96, test=200, seed=3)
    assert _names(splits.test) <= _names(part(task, "test"))
    assert DEFAULT_SIZES == {"support": 32, "reward": 96, "test": 200}


def test_an_unknown_part_is_bad_input() -> None:
    with pytest.raises(InputError, match="no part is called"):
        part(_task(_examples(10)), "validation")  # type: ignore[arg-type]


# The embedded data


@cache
def loaded(name: str) -> Task:
    """A task whose source is read once."""
    examples = TASKS[name].load()
    return replace(TASKS[name], load=lambda: examples)


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(set(TASKS) - {"divlogiceval", "codemmlu", "jama"}))
def test_the_default_sizes_fit_every_embedded_task(name: str) -> None:
    _assert_apart(split(loaded(name), support=32, reward=96, test=200, seed=0))


@pytest.mark.integration
def test_arc_easy_and_challenge_share_no_question_across_parts() -> None:
    easy, hard = ({name: _groups(part(loaded(of), name)) for name in SHARES} for of in ("arc_easy", "arc_challenge"))
    for one in SHARES:
        for other in SHARES:
            if one != other:
                assert not easy[one] & hard[other]


@pytest.mark.integration
def test_a_question_that_two_tasks_share_is_in_one_part() -> None:
    """Except for the stand-ins, which are dealt out whole and never trained on."""
    homes: dict[str, set[str]] = {}
    tasks: dict[str, set[str]] = {}
    for name, task in TASKS.items():
        if not task.has_train or name in ("divlogiceval", "codemmlu", "jama"):
            continue
        for place in SHARES:
            for example in part(loaded(name), place):
                homes.setdefault(normalise(example.question), set()).add(place)
                tasks.setdefault(normalise(example.question), set()).add(name)
    shared = [question for question in tasks if {"math", "mmlu_math"} <= tasks[question]]
    assert len(shared) > 50
    assert all(len(homes[question]) == 1 for question, names in tasks.items() if len(names) > 1)


@pytest.mark.integration
def test_history_questions_about_one_document_are_in_one_part() -> None:
    homes: dict[str, set[str]] = {}
    for name in SHARES:
        for example in part(loaded("mmlu_history"), name):
            if example.question.startswith("This question refers to"):
                homes.setdefault(normalise(example.question)[:300], set()).add(name)
    assert len(homes) > 150
    assert all(len(found) == 1 for found in homes.values())


@pytest.mark.integration
def test_winogrande_twins_are_in_one_part() -> None:
    homes: dict[frozenset[str], set[str]] = {}
    for name in SHARES:
        for example in part(loaded("winogrande"), name):
            homes.setdefault(frozenset(choice.lower() for choice in example.choices), set()).add(name)
    assert any(len(found) == 1 for found in homes.values())
    assert all(len(found) == 1 for found in homes.values())

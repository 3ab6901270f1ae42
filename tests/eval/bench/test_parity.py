"""Grading beside lm-evaluation-harness's own evaluator."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.tasks import get_task
from cao.tasks.base import Task, choice_example
from cao.types import Branch, ChoiceLikelihood, Example, Item, Query
from eval.bench.plain import parity
from eval.bench.plain.harness import Sample
from tests.eval.bench.parts import check

BLANKS = [
    choice_example("The bird saw the sun because _ was bright.", ["the bird", "the sun"], 1),
    choice_example("Tom thanked Ann, for _, the elder, helped.", ["Tom", "Ann"], 1),
    choice_example("_ is too large for the box.", ["the cup", "the box"], 0),
]


def animals() -> tuple[Task, list[Example]]:
    choices = ("the bird", "to sleep or to grow", "7", "the sün")
    examples = [choice_example(f"Which of these animals is number {i}?", choices, i % 4) for i in range(8)]
    return Task("animals", "Animals", "a test", lambda: examples), examples


@pytest.mark.integration
def test_the_harness_grades_every_item_as_we_do(tiny_lm: LanguageModel) -> None:
    pytest.importorskip("lm_eval")
    tiny_lm.model.float()
    result = parity.bench(tiny_lm, [animals()], batch=3)
    check(result)
    found = result.tasks["animals"]
    assert (found.questions, found.equal, result.differences) == (8, {"acc": 8, "acc_norm": 8}, [])
    assert found.ours == found.harness
    assert 0 <= found.largest_difference < 1e-3
    told = dict(result.lines())
    assert told["acc (log-likelihood)"] == told["acc_norm (log-likelihood by character)"] == "8 of 8 items equal"


def test_a_document_is_the_prompt_and_the_choices_that_we_score(tiny_lm: LanguageModel) -> None:
    task, examples = animals()
    made = parity.document(task, examples[1], tiny_lm)
    assert made["beginnings"] == ["Question: Which of these animals is number 1?\nAnswer:"]
    assert (made["ends"], made["gold"]) == ([f" {choice}" for choice in examples[1].choices], 1)


def test_choices_that_stand_before_what_is_scored_are_beginnings(tiny_lm: LanguageModel) -> None:
    made = parity.document(get_task("winogrande"), BLANKS[0], tiny_lm)
    assert made["beginnings"] == ["The bird saw the sun because the bird", "The bird saw the sun because the sun"]
    assert (made["ends"], made["gold"]) == ([" was bright."], 1)


@pytest.mark.parametrize(
    ("branches", "said"),
    [
        ((Branch(lead=" a", scored=" b"), Branch(lead=" c", scored=" d")), "both differ"),
        ((Branch(scored="b"), Branch(scored=" d")), "not behind one space"),
    ],
)
def test_what_the_harness_cannot_ask_is_refused(
    tiny_lm: LanguageModel, branches: tuple[Branch, ...], said: str
) -> None:
    odd = replace(get_task("winogrande"), name="odd", likelihood=lambda _: Query(prefix="q", branches=branches))
    with pytest.raises(InputError, match=f"odd: .*{said}"):
        parity.document(odd, BLANKS[0], tiny_lm)


@pytest.mark.integration
def test_the_harness_grades_blanks_as_we_do(tiny_lm: LanguageModel) -> None:
    pytest.importorskip("lm_eval")
    tiny_lm.model.float()
    result = parity.bench(tiny_lm, [(get_task("winogrande"), BLANKS), animals()], batch=3)
    check(result)
    found = result.tasks["winogrande"]
    assert (found.questions, found.equal, result.differences) == (len(BLANKS), {"acc": len(BLANKS)}, [])
    assert found.ours == found.harness
    assert 0 <= found.largest_difference < 1e-3
    told = dict(result.lines())
    assert told["acc (log-likelihood)"] == f"{len(BLANKS) + 8} of {len(BLANKS) + 8} items equal"
    assert told["acc_norm (log-likelihood by character)"] == "8 of 8 items equal"


def graded(ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]], gold: int) -> parity.Graded:
    """Both sides' log-likelihoods of two choices of 1 and 4 characters."""

    def item(lls: tuple[float, float], sizes: tuple[int, int]) -> Item:
        scores = tuple(ll / size for ll, size in zip(lls, sizes, strict=True))
        choice, choices = scores.index(max(scores)), tuple(ChoiceLikelihood(ll, 1, 1) for ll in lls)
        return Item(id="q", scores=scores, choice=choice, gold=gold, correct=choice == gold, loss=0.0, choices=choices)

    samples = [
        Sample(
            doc_id=i,
            doc={"id": "q", "beginnings": ["Q:"], "ends": [" a", " long"], "gold": gold},
            filtered_resps=[(ll, False) for ll in lls],
            acc=float((lls[1] > lls[0]) == gold),
            acc_norm=float((lls[1] / 4 > lls[0]) == gold),
        )
        for i, lls in enumerate(theirs)
    ]
    return parity.Graded(
        "toy", {"acc": [item(x, (1, 1)) for x in ours], "acc_norm": [item(x, (1, 4)) for x in ours]}, samples
    )


def test_an_item_that_is_decided_otherwise_is_counted_and_shown() -> None:
    found, unequal = parity.compared(graded([(-2.0, -3.0), (-2.0, -3.0)], [(-2.5, -3.0), (-4.0, -3.5)], gold=0))
    assert found.questions == 2
    assert found.equal == {"acc": 1, "acc_norm": 2}  # by character both sides choose the long one, wrongly
    assert (found.ours, found.harness) == ({"acc": 1.0, "acc_norm": 0.0}, {"acc": 0.5, "acc_norm": 0.0})
    assert found.largest_difference == 2.0
    assert [(each.metric, each.ours, each.harness, each.gap) for each in unequal] == [("acc", 0, 1, 0.5)]

"""Questions that a model writes: what is read out of its text, and what is left out."""

import pytest

from cao.model.language_model import LanguageModel
from cao.tasks.base import choice_example
from eval.baselines.serl.questions import Writing, listed, parsed, rouge_l, unasked, write_questions
from tests.tools.tiny_training import ANIMALS, TASKS, examples

WHOLE = "Which of these animals lives in water?\nA. the bird\nB. the fish\nC. the snake"


def test_a_list_shows_questions_and_choices_and_ends_where_the_model_goes_on() -> None:
    text = listed(
        [choice_example("Which can fly?", ("bird", "fish"), 0), choice_example("Which swims?", ("a", "b"), 1)]
    )
    assert text == "Question: Which can fly?\nA. bird\nB. fish\n\nQuestion: Which swims?\nA. a\nB. b\n\nQuestion:"


@pytest.mark.parametrize("tail", ["", "\nAnswer: B", "\n\nQuestion: Another one of them?\nA. x", "\nQuestion: x"])
def test_the_first_whole_question_is_read(tail: str) -> None:
    found = parsed(f" {WHOLE}{tail}", 3)
    assert found is not None
    assert found.question == "Which of these animals lives in water?"
    assert found.choices == ("the bird", "the fish", "the snake")
    assert not found.labelled


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("C. the snake", ""),  # a choice is missing
        WHOLE.replace("B. ", "C. "),
        WHOLE.replace("the snake", "the fish"),  # two are the same
        WHOLE.replace("Which of these animals lives in water?", "Which?"),
        WHOLE.replace("Which", "word " * 150),
        WHOLE.replace("animals", "pictures"),
        WHOLE.replace("Which", "...which"),
        WHOLE.replace("Which", "Ж"),
    ],
)
def test_poor_ones_are_left_out(text: str) -> None:
    assert parsed(text, 3) is None


def test_without_choices_the_text_alone_is_the_question() -> None:
    found = parsed(" How many apples are left on the table?\nAnswer: 7", 0)
    assert found is not None
    assert (found.question, found.choices) == ("How many apples are left on the table?", ())


def test_likeness_is_that_of_the_public_scorer() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    texts = ["which of these can fly", "Which of these animals can swim?", "a dog", "fly can these of which", ""]
    for first in texts:
        for second in texts:
            assert rouge_l(first, second) == pytest.approx(scorer.score(first, second)["rougeL"].fmeasure)


def test_what_a_model_writes_is_whole_new_and_the_same_again(tiny_lm: LanguageModel) -> None:
    seeds = examples(ANIMALS[:2], 4)
    writing = Writing(wanted=3, shown=2, at_once=4, tries=1, max_tokens=24)
    first = write_questions(tiny_lm, seeds, writing, "0:0")
    assert first == write_questions(tiny_lm, seeds, writing, "0:0")
    turned = [each.model_copy(update={"answer": 1 - each.answer}) for each in seeds]
    assert first == write_questions(tiny_lm, turned, writing, "0:0")
    assert write_questions(tiny_lm, seeds, writing, "0:0", lambda: True) == []
    assert all(len(each.choices) == 2 and not each.labelled for each in first)


def test_a_question_of_the_tasks_own_is_left_out_however_it_is_spaced() -> None:
    own, new = TASKS["animals"].load()[3], parsed(WHOLE, 3)
    assert new is not None
    repeated = new.model_copy(update={"question": f"  {own.question.upper()} !"})
    assert unasked([new, repeated], TASKS["animals"]) == [new]

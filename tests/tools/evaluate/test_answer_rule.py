"""Answer rules by hand arithmetic, what they refuse, and that the engine's priors are what a plain reading gives."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import NotApplicableError
from cao.model.language_model import LanguageModel
from cao.tasks import get_task
from cao.tasks.base import Task, choice_example
from cao.types import AdaptedModel, AnswerRule, ChoiceLikelihood, Example, Item, LatentSettings
from tools.evaluate import evaluate
from tools.evaluate.answer_rule import RULES, choice_scores, ranked, under_rule
from tools.evaluate.priors import NEUTRAL, batch_prior, choice_prior, same_choices

CHOICES = (ChoiceLikelihood(-6.0, 2, 12), ChoiceLikelihood(-8.0, 4, 10))
PRIOR = [-3.0, -7.0]
COLOURS = [choice_example(f"Which colour has thing {i}?", ["red", "blue"], i % 2) for i in range(6)]
QUESTIONS = [choice_example(f"What is {i} and {i}?", [f"it is {i}{i}", f"{i + i}", "none"], 1) for i in range(6)]


def task(examples: list[Example]) -> Task:
    return Task(name="hand", title="Hand", source="here", load=lambda: examples, has_train=False)


@pytest.mark.parametrize(
    ("rule", "scores"),
    [
        (AnswerRule(), [-0.5, -0.8]),
        (AnswerRule(length="none"), [-6.0, -8.0]),
        (AnswerRule(length="token"), [-3.0, -2.0]),
        (AnswerRule(prior="choice", strength=1.0, length="none"), [-3.0, -1.0]),
        (AnswerRule(prior="choice", strength=0.5, length="char"), [-4.5 / 12, -4.5 / 10]),
        (AnswerRule(prior="batch", strength=0.25, length="token"), [-5.25 / 2, -6.25 / 4]),
    ],
)
def test_a_score_is_the_likelihood_less_a_share_of_the_prior_over_the_length(rule, scores):
    assert choice_scores(CHOICES, PRIOR, rule) == pytest.approx(scores)


def test_another_rule_turns_the_answer_and_keeps_what_was_measured():
    example = choice_example("Which?", ["first", "second"], 1)
    item = ranked(example, [-0.5, -0.8], gold_nll=8.0).model_copy(update={"choices": CHOICES, "gold_chars": 10})
    assert (item.choice, item.correct) == (0, False)
    rule = AnswerRule(prior="choice", strength=1.0, length="none")
    turned = under_rule(example, item, rule, {" first": -3.0, " second": -7.0}, [" first", " second"])
    assert (turned.choice, turned.correct) == (1, True)
    assert turned.loss == pytest.approx(math.log(1 + math.exp(-2)))
    assert (turned.gold_nll, turned.gold_chars, turned.choices) == (8.0, 10, CHOICES)
    assert under_rule(example, turned, AnswerRule(), {}, ()).scores == item.scores


@given(st.lists(st.floats(-50, -1), min_size=2, max_size=5), st.floats(0, 1))
def test_equal_choices_have_equal_scores_and_the_first_answers(logprobs, strength):
    choices = [ChoiceLikelihood(value, 3, 7) for value in (min(logprobs), *logprobs, max(logprobs))]
    rule = AnswerRule(prior="choice", strength=strength, length="char")
    scores = choice_scores(choices, [-2.0] * len(choices), rule)
    first = next(i for i, choice in enumerate(choices) if choice.logprob == max(logprobs))
    assert scores.index(max(scores)) == first


def test_a_single_choice_is_the_answer_by_any_rule(tiny_lm: LanguageModel):
    alone = [choice_example(f"Say {word}.", [word], 0) for word in ("yes", "no")]
    for rule in RULES[:4]:
        items = evaluate(task(alone), alone, AdaptedModel(answer_rule=rule), "likelihood", lm=tiny_lm)
        assert [(item.correct, item.loss) for item in items] == [(True, 0.0)] * 2


def test_the_prior_of_a_label_is_its_mean_probability_behind_the_neutral_questions(tiny_lm: LanguageModel):
    prior = choice_prior(task(COLOURS), COLOURS, tiny_lm)
    assert list(prior) == [" red", " blue"]
    for text, value in prior.items():
        logs = [_logprob(tiny_lm, f"Question: {neutral}\nAnswer:", text) for neutral in NEUTRAL]
        assert value == pytest.approx(math.log(sum(map(math.exp, logs)) / len(logs)), abs=0.05)


def _logprob(lm: LanguageModel, prefix: str, text: str) -> float:
    """One plain forward pass over the whole text."""
    before, tokens = lm.encode(prefix), lm.encode(prefix + text)
    with torch.inference_mode():
        logs = lm.model(torch.tensor([tokens])).logits[0].float().log_softmax(1)
    return sum(float(logs[i - 1, tokens[i]]) for i in range(len(before), len(tokens)))


def test_texts_of_their_own_are_read_behind_the_empty_question_alone(tiny_lm: LanguageModel, monkeypatch):
    monkeypatch.setattr("tools.evaluate.priors.LABELS", 3)
    prior = choice_prior(task(QUESTIONS), QUESTIONS, tiny_lm)
    assert prior[" none"] == pytest.approx(_logprob(tiny_lm, "Question: \nAnswer:", " none"), abs=0.05)


def test_the_prior_of_a_batch_is_the_labels_mean_share_whatever_their_order():
    examples = [choice_example("a", ["yes", "no"], 0), choice_example("b", ["no", "yes"], 0)]
    given = [_shares(0.8, 0.2), _shares(0.6, 0.4)]
    prior = batch_prior(task(examples), examples, given, "text")
    assert prior == pytest.approx({" yes": math.log(0.6), " no": math.log(0.4)})


def _shares(*values: float) -> Item:
    choices = tuple(ChoiceLikelihood(math.log(value) - 3, 1, 3) for value in values)
    return Item(id="x", correct=True, loss=0.0, choices=choices)


def test_whole_evaluations_agree_with_the_formula(tiny_lm: LanguageModel):
    plain = evaluate(task(COLOURS), COLOURS, AdaptedModel(), "likelihood", lm=tiny_lm)
    prior = choice_prior(task(COLOURS), COLOURS, tiny_lm)
    rule = AnswerRule(prior="choice", strength=1.0, length="none")
    ruled = evaluate(task(COLOURS), COLOURS, AdaptedModel(answer_rule=rule), "likelihood", lm=tiny_lm)
    for example, before, after in zip(COLOURS, plain, ruled, strict=True):
        wanted = [c.logprob - prior[f" {text}"] for c, text in zip(before.choices, example.choices, strict=True)]
        assert after.scores == pytest.approx(tuple(wanted), abs=0.05)


def test_no_answer_is_read_for_a_prior(tiny_lm: LanguageModel):
    turned = [example.model_copy(update={"answer": 1 - example.answer}) for example in COLOURS]
    rule = AnswerRule(prior="batch", strength=1.0)
    model = AdaptedModel(answer_rule=rule)
    runs = [
        evaluate(task(COLOURS), COLOURS, model, "likelihood", lm=tiny_lm, support=part) for part in (COLOURS, turned)
    ]
    assert [item.scores for item in runs[0]] == [item.scores for item in runs[1]]


def test_a_batch_without_the_same_choices_is_refused(tiny_lm: LanguageModel):
    model = AdaptedModel(answer_rule=AnswerRule(prior="batch", strength=1.0))
    with pytest.raises(NotApplicableError, match="same words in every question"):
        evaluate(task(QUESTIONS), QUESTIONS, model, "likelihood", lm=tiny_lm, support=QUESTIONS)
    with pytest.raises(NotApplicableError, match="same words in every question"):
        evaluate(task(COLOURS), QUESTIONS, model, "likelihood", lm=tiny_lm, support=COLOURS)


def test_a_prior_that_is_not_finite_is_refused():
    example = choice_example("Which?", ["first", "second"], 1)
    item = ranked(example, [0.0, 1.0]).model_copy(update={"choices": CHOICES})
    rule = AnswerRule(prior="choice", strength=1.0)
    with pytest.raises(NotApplicableError, match="not a finite number"):
        under_rule(example, item, rule, {" first": -math.inf, " second": 0.0}, [" first", " second"])


def test_choices_that_are_read_and_not_scored_have_no_prior(tiny_lm: LanguageModel):
    winogrande = get_task("winogrande")
    example = Example(id="w", question="The cup fell off the _ and broke.", choices=("table", "chair"), answer=0)
    with pytest.raises(NotApplicableError, match="scores what follows a choice"):
        choice_prior(winogrande, [example], tiny_lm)
    assert not same_choices(winogrande, [example, example], "text")


def test_letters_are_labels(tiny_lm: LanguageModel):
    assert same_choices(task(QUESTIONS), QUESTIONS, "letter")
    assert not same_choices(task(QUESTIONS), QUESTIONS, "text")
    assert same_choices(task(COLOURS), COLOURS, "text")


def test_on_latent_a_batchs_prior_has_its_vectors_and_a_choices_prior_has_none(tiny_lm: LanguageModel):
    """A prompt of the batch is a question, to which vectors are fitted; a neutral question is none."""
    latent = LatentSettings(slot_steps=3, slot_lr=0.1)
    plain, moved = (
        evaluate(task(COLOURS), COLOURS, AdaptedModel(latent=one), "likelihood", lm=tiny_lm) for one in (None, latent)
    )
    of_batch = [batch_prior(task(COLOURS), COLOURS, items, tiny_lm.profile.answer_style) for items in (plain, moved)]
    assert of_batch[0] != pytest.approx(of_batch[1])
    priors = {"batch": of_batch[1], "choice": choice_prior(task(COLOURS), COLOURS, tiny_lm)}
    for kind, prior in priors.items():
        rule = AnswerRule(prior=kind, strength=1.0, length="none")
        model = AdaptedModel(latent=latent, answer_rule=rule)
        ruled = evaluate(task(COLOURS), COLOURS, model, "likelihood", lm=tiny_lm, support=COLOURS)
        for example, before, after in zip(COLOURS, moved, ruled, strict=True):
            wanted = [c.logprob - prior[f" {text}"] for c, text in zip(before.choices, example.choices, strict=True)]
            assert after.scores == pytest.approx(tuple(wanted), abs=1e-4)

"""Calibrate: another rule by which the current model's likelihoods become answers; nothing is trained or written."""

from cao.strategies.calibrate import Calibrate
from cao.types import AdaptedModel, AnswerRule
from tools.apply_strategy.inputs import Inputs

PRIORS = {
    "none": "as they are",
    "choice": "less {:g} times what each choice has behind an empty question",
    "batch": "less {:g} times each label's mean over the unlabelled prompts",
}
LENGTHS = {"none": "not divided by length", "token": "divided by the tokens", "char": "divided by the characters"}


def apply(strategy: Calibrate, inputs: Inputs) -> AdaptedModel:
    """Return the current model with the strategy's rule."""
    return inputs.current.model_copy(update={"answer_rule": strategy.rule, "note": rule_words(strategy.rule)})


def rule_words(rule: AnswerRule) -> str:
    """Return an answer rule in words, without a full stop."""
    return f"log-probabilities of the choices {PRIORS[rule.prior].format(rule.strength)}, {LENGTHS[rule.length]}"

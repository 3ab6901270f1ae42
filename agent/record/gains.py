"""What made which part of a gain, in words: answer rules, adapters and strategies, each credited with its own step."""

from agent.record.measurements import RULE_STEP, PartScore, TestPart
from agent.record.schema import Adopted, Run
from agent.record.wording import count, number, p_text, points, signed
from cao.encodings import visible
from cao.types import AnswerRule

PRIORS = {"none": "log p", "choice": "log p − {:g} log p(choice)", "batch": "log p − {:g} log p(label's mean)"}
LENGTHS = {"none": "", "token": " per token", "char": " per character"}


def rule_text(rule: AnswerRule) -> str:
    """Return an answer rule as a short formula: ``log p − 0.5 log p(choice) per character``."""
    formula = PRIORS[rule.prior].format(rule.strength)
    unit = LENGTHS[rule.length]
    return f"({formula}){unit}" if rule.prior != "none" and unit else f"{formula}{unit}"


def rules_sentence(run: Run) -> str:
    """Return by which rules the deployed and the best model answer; empty where there was nothing to choose."""
    if len(run.reward.rules) < 2:
        return ""
    measured = [row for row in run.reward.rules if row.base]
    failed = "".join(f" Not measured by {rule_text(row.rule)}: {row.reason}." for row in run.reward.rules if row.reason)
    base, best = run.reward.answer_rules["baseline"], run.reward.answer_rules["best"]
    both = "; so does the best model" if base == best else f", the best model by {rule_text(best)}"
    return (
        f"Of {count(len(measured), 'answer rule')}, measured for every model alike, the deployed model answers by "
        f"{rule_text(base)}{both}.{visible(failed)}"
    )


def steps_sentences(test: TestPart | None) -> list[str]:
    """Return what each step from the deployed model under the default rule to the adopted one changed on test."""
    if test is None or not test.default:
        return []
    named = {RULE_STEP: "the deployed model's own best answer rule"}
    return [
        f"{named.get(step.what, visible(step.what))}: accuracy {points(step.accuracy_change)} "
        f"(McNemar {p_text(step.p_value)}), log-loss {signed(step.loss_change)} → {number(step.loss)} "
        f"({p_text(step.loss_p_value)})"
        for step in test.steps
    ]


def sides(test: TestPart) -> dict[str, PartScore]:
    """Return name → score of the sides of the test part, the deployed model twice where its best rule is another."""
    ruled = any(step.what == RULE_STEP for step in test.steps)
    if not (ruled and test.default):
        return {"deployed model": test.baseline, "adapted": test.adapted}
    return {"deployed model": test.default, "… by its best rule": test.baseline, "adapted": test.adapted}


def folder_alone(run: Run) -> bool:
    """Return whether the base model with the adopted adapter's folder has the gain, and nothing else is needed."""
    adopted = run.adopted
    if adopted is None or adopted.adapter is None or run.config.get("start_adapter"):
        return False
    soft = any(strategy.get("peft") == "prompt" for strategy in adopted.accepted)
    besides = soft or made_anew(adopted) or adopted.latent or adopted.together
    return not besides and adopted.answer_rule == AnswerRule()


def made_anew(adopted: Adopted) -> bool:
    """Return whether what was adopted is trained on the very questions that it answers."""
    return any(strategy.get("inputs") == "test" for strategy in adopted.accepted)

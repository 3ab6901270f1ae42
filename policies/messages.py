"""From the state of a run to the messages a language model reads."""

import json
from collections.abc import Mapping
from decimal import Decimal

from cao.strategies import FAMILIES
from cao.strategies.base import SettingRule
from cao.types import Message, StrategyFields, Trial
from policies.base import PolicyContext
from prompts.render import as_data, render

HISTORY_SHOWN = 12
"""Attempts that the prompt lists, the latest; a prompt must not grow with a long run."""


MEASURED_SHOWN = 8
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def policy_messages(context: PolicyContext) -> list[Message]:
    """Return what the policy's model is asked: role, families, task context, state and attempts so far.

    Args:
        context: the state of the run; every text in it is treated as data.

    Source: CAO-LLM §2.4, G.1 (task context and the four schemas in, exactly one JSON object out).
    """
    families: tuple[str, ...] = context.families or tuple(FAMILIES)
    unavailable = [(name, reason) for name, reason in context.unavailable.items() if name not in families]
    rules = {name: family.schema_of(context.withheld.get(name))["properties"] for name, family in FAMILIES.items()}
    forms = {name: (family.about, _form(rules[name])) for name, family in FAMILIES.items()}
    system = render("policy_system", count=NUMBERS[len(forms)], families=forms)
    user = render(
        "policy_user",
        task_context=context.task_context or "Nothing is known about the task.",
        baseline=context.baseline,
        drift=context.drift,
        measured=context.measured[:MEASURED_SHOWN],
        available=families,
        usual={
            name: family.usual | {key: " or ".join(rules[name][key]["enum"]) for key in context.withheld.get(name, ())}
            for name, family in FAMILIES.items()
            if name in families
        },
        unavailable=unavailable[: len(FAMILIES)],
        attempts=[_attempt(trial) for trial in context.history[-HISTORY_SHOWN:]],
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def with_rejected(messages: list[Message], rejected: list[tuple[str, str]]) -> list[Message]:
    """Return the policy's messages with the replies that were no use, and why, behind the last of them.

    Args:
        messages: what was asked.
        rejected: each reply and the reason; data both.
    """
    if not rejected:
        return messages
    *before, last = messages
    return [*before, {**last, "content": f"{last['content']}\n{render('policy_again', rejected=rejected)}"}]


def describer_messages(pairs: list[tuple[str, str | None]]) -> list[Message]:
    """Return what a describer's model is asked.

    Args:
        pairs: questions with their answers, None where the answer must not be read.

    Source: CAO-LLM §2.4, G.2 (one paragraph, neutral academic tone, no example quoted).
    """
    system, user = render("describe_system"), render("describe_user", pairs=pairs)
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def plain_json(strategy: StrategyFields, *, spaced: bool = True) -> str:
    """Return a strategy as JSON with plain decimals (``0.00001``, not ``1e-05``), the form that policies write.

    Args:
        strategy: its JSON object.
        spaced: whether with a blank behind commas and colons; language models are shown the form without.
    """
    comma, colon = (", ", ": ") if spaced else (",", ":")

    def text(value: object) -> str:
        return format(Decimal(repr(value)), "f") if isinstance(value, float) else json.dumps(value)

    return "{" + comma.join(f"{json.dumps(key)}{colon}{text(value)}" for key, value in strategy.items()) + "}"


def _form(rules: Mapping[str, SettingRule]) -> dict[str, str]:
    """Return key → what its value may be, read off the schema so that prompt and check agree."""
    return {key: _value(rule) for key, rule in rules.items()}


def _value(rule: SettingRule) -> str:
    if "enum" in rule:
        return "one of " + ", ".join(json.dumps(choice) for choice in rule["enum"])
    if rule["type"] in ("integer", "number"):
        bounds = (rule["minimum"], rule["maximum"])
        low, high = (format(Decimal(repr(bound)).normalize(), "f") for bound in bounds)
        return f"{rule['type']} from {low} to {high}"
    return "true or false" if rule["type"] == "boolean" else json.dumps(rule.get("const"))


def _attempt(trial: Trial) -> dict[str, object]:
    proposal = (
        plain_json(trial.strategy) if trial.strategy is not None else f"no strategy: {as_data(trial.raw or '', 160)}"
    )
    change = trial.comparison
    return {
        "number": trial.attempt,
        "proposal": proposal,
        "accepted": trial.accepted,
        "reason": trial.reason.removeprefix(
            "accepted: " if trial.accepted else "rejected: "
        ),  # the line says so already
        "accuracy_change": change.accuracy_change if change else None,
        "loss_change": change.loss_change if change else None,
    }

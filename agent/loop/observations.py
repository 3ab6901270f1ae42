"""What the policy reads: τ, what stands and was tried, and measurements from before the loop, in words and numbers.

Source: CAO-LLM §2.4 for τ; the measurements are beyond it.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.loop.state import Starts, State, Workbench
from agent.record.events import Start
from agent.record.measurements import GENERATED, StartName
from cao.drift import DriftReport
from cao.model.soft_prompt.either import load_carried
from cao.strategies import FAMILIES
from cao.types import AdapterRef, AnswerRule, Example, Item, Reward
from policies.base import PolicyContext
from policies.grid import grid
from tools.apply_strategy import applicable, ttl
from tools.apply_strategy.calibrate import rule_words
from tools.apply_strategy.ttl_loss import PERPLEXITY_THRESHOLD


def policy_context(state: State, bench: Workbench) -> PolicyContext:
    """Return what the policy sees: τ, the model's reward as it stands, what can act now, and the attempts so far."""
    standing = bench.standing(bench.adapted(state["best"]), bench.adapted(state["started"]))
    reasons = applicable(standing)
    return PolicyContext(
        task=bench.task.name,
        task_context=state["context"].text,
        baseline=Reward.model_validate(state["best_reward"]),
        families=tuple(name for name, reason in reasons.items() if reason is None),
        unavailable={name: reason for name, reason in reasons.items() if reason is not None},
        withheld={
            name: found
            for name, family in FAMILIES.items()
            if reasons[name] is None and (found := family.withheld(standing))
        },
        refused=tuple(point.canonical() for point in grid(FAMILIES) if point.refusal(standing)),
        history=tuple(state["trials"]),
        drift=state["drift"].sentence if bench.config.policy_sees_drift else "",
        measured=tuple(f"Before anything was accepted: {one}" if state["steps"] else one for one in state["observed"]),
        features=state["features"],
    )


def perplexities(bench: Workbench, adapter: AdapterRef | None) -> list[float]:
    """Return the perplexities of the support prompts with an adapter, lowest first."""
    weights = load_carried(Path(adapter.path), bench.lm.sha256) if adapter else None
    return sorted(ttl.perplexities(bench.lm, bench.prompts(), weights))


def observe(start: StartName, starts: Starts, rule: AnswerRule, found: list[float]) -> list[str]:
    """Return the sentences.

    Args:
        start: what the loop starts from: ``base``, ``generated`` or ``aligned``.
        starts: name → what was measured of it, or None.
        rule: the answer rule of the start.
        found: the prompts' perplexities, lowest first.
    """
    sentences = [adapter_sentence(name, begun, chosen=name == start) for name in GENERATED if (begun := starts[name])]
    if rule != AnswerRule():
        sentences.append(
            f"It answers by {rule_words(rule)}, which was better than the default on the reward questions."
        )
    if found:
        tenth = len(found) // 10
        passed = sum(value > PERPLEXITY_THRESHOLD for value in found)
        sentences.append(
            f"The perplexity of the task's own questions is {statistics.median(found):.0f} in the middle, "
            f"{found[tenth]:.0f} to {found[-1 - tenth]:.0f} for most; {passed} of {len(found)} are above TTL's "
            f"threshold of {PERPLEXITY_THRESHOLD:.0f}."
        )
    return sentences


def adapter_sentence(name: str, measured: Start, *, chosen: bool) -> str:
    """Return what the policy is told about a generated adapter: its change, and whether it is carried."""
    change, after = measured["comparison"], measured["dropped_after"]
    if change is None:
        return f"The {name} adapter gives no usable answers."
    use = "the current model carries it" if chosen else "the current model does not carry it"
    where = "" if after is None else f" on the first {after} reward questions, after which it was dropped"
    return (
        f"The {name} adapter changes the deployed model's accuracy by {100 * change.accuracy_change:+.1f} points and "
        f"its log-loss by {change.loss_change:+.4f}{where}; {use}."
    )


def features(
    start: StartName,
    examples: Sequence[Example],
    by_rule: Mapping[AnswerRule, Sequence[Item]],
    perplexities: Sequence[float],
    drift: DriftReport,
    *,
    labels: bool,
) -> dict[str, float]:
    """Return what is known of a task without a label, as numbers, for policies that compute: name → value.

    Every task has every name. They come from the answers that the start's measurement has anyway.

    Args:
        start: what the loop starts from.
        examples: Q questions; their answers are not read.
        by_rule: the start's answers to them under each rule that can act.
        perplexities: of the prompts, as the start reads them.
        drift: the report.
        labels: whether the choices are the same words in every question.
    """
    default = by_rule[AnswerRule()]
    shares = [np.exp(_log_softmax(item.scores)) for item in default if item.scores]
    chosen = Counter(e.choices[i.choice] for e, i in zip(examples, default, strict=True) if e.choices)
    lengths = [[len(choice) for choice in example.choices] for example in examples if example.choices]
    agree = [
        statistics.fmean(a.choice == b.choice for a, b in zip(default, items, strict=True))
        for rule, items in by_rule.items()
        if rule != AnswerRule()
    ]
    nll = statistics.median(map(math.log, perplexities)) if perplexities else 0.0
    return {
        "start_is_base": float(start == "base"),
        "log_choices": _mean([math.log(len(one)) for one in lengths]),
        "labels": float(labels),
        "label_skew": max(chosen.values()) / len(default) if labels and chosen else 0.0,
        "entropy": _mean([float(-(p * np.log(p + 1e-12)).sum() / math.log(max(2, len(p)))) for p in shares]),
        "margin": _mean([float(np.diff(np.sort(p))[-1]) for p in shares if len(p) > 1]),
        "length": _mean([math.log(1 + statistics.fmean(one)) for one in lengths]),
        "length_spread": _mean([statistics.pstdev(one) / max(1.0, statistics.fmean(one)) for one in lengths]),
        "rules_agree": _mean(agree) if agree else 1.0,
        "prompt_nll": nll,
        "drift": drift.score,
    }


def _log_softmax(scores: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    return values - float(np.logaddexp.reduce(values))


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0

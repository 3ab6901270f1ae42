"""What the loop starts from: the deployed model, the generated adapter or the aligned one, whichever measures best.

Each is measured under the same answer rules and stands for itself under its own best one. A generated adapter is judged
like any proposal of the loop: it must beat the deployed model on the reward questions under the run's rule of
acceptance, and one without prospects is dropped early. So the loop never starts below the deployed model.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from agent.budget.plan import part_seconds
from agent.loop.answers import Measurement, rules_of
from agent.loop.counts import counted
from agent.loop.observations import features, observe, perplexities
from agent.loop.request import MISSING
from agent.loop.reward import Bar, judge, measure_part, race_reward
from agent.loop.state import Starts, State, Workbench
from agent.record.events import Start
from agent.record.measurements import GENERATED, GeneratedName, RuleRewards, StartName, Unjudged
from agent.record.page.questions import keep_questions
from agent.record.wording import START_NAMES
from cao.drift import DriftReport
from cao.errors import InputError, NotApplicableError
from cao.inference.scoring import context_length
from cao.model.adapters import save_adapter
from cao.types import AdaptedModel, AnswerRule, Comparison, Item, Reward
from tools.evaluate import answer_by, evaluate, prior_of
from tools.evaluate.answer_rule import RULES
from tools.evaluate.statistics import CONFIDENT_LEVEL, best_rule, summarise

T = TypeVar("T")


class Contender(NamedTuple):
    """A model that the loop may start from, under its own best answer rule.

    Attributes:
        model: with that rule.
        items: its answers to the reward questions; the first ones where it was dropped.
        measured: what asking it took.
        scores: answer rule → what it scores under it, where it was measured to the end.
        failed: answer rule → why it could not be measured under it.
        verdict: how it compares with the deployed model, None for that one itself.
    """

    model: AdaptedModel
    items: list[Item]
    measured: Measurement
    scores: dict[AnswerRule, Reward]
    failed: dict[AnswerRule, str]
    verdict: Comparison | None = None


def first_state(bench: Workbench) -> State:
    """Return the state before the first node: nothing is made, measured or tried yet."""
    trained = bench.trained
    return {
        "status": "running",
        "adapters": {
            "generated": None,
            "aligned": None,
            "variant": trained.variant,
            "saw_task": trained.saw_task,
            "saw_questions": trained.saw_questions,
            "caveats": [],
            "reason": "",
        },
        "baseline": None,
        "base": bench.pack(deployed(bench)),
        "rules": [],
        "start": "base",
        "starts": {"generated": None, "aligned": None},
        "best_reward": None,
        "evaluations": counted(None),
        "proposal": None,
        "candidate": None,
        "trials": [],
        "max_attempts": bench.config.max_attempts,
        "accepted": False,
        "steps": [],
        "until": bench.config.until,
    }


def deployed(bench: Workbench) -> AdaptedModel:
    """Return the deployed model; an adapter that it carries is taken into the run's own store."""
    adapter = save_adapter(bench.store, bench.carried, bench.lm.source) if bench.carried else None
    return AdaptedModel(members=(adapter,))


def measure_starts(state: State, bench: Workbench) -> State:
    """Measure the deployed model and every adapter under the same answer rules, and start from the best.

    The deployed model under its own best rule is what every gain is measured against: an adapter must beat it under the
    adapter's own best one. Rules ask nothing anew, so all of them cost one measurement and the priors. What is started
    from is measured on every question; an adapter that is hopeless under every rule is dropped early. A kill inside
    costs a block of questions.

    Args:
        state: the state after ``align``.
        bench: the workbench.

    Source: CAO-LLM §2.4; the comparison with the deployed model and the rules are this project's.
    """
    keep_questions(bench.folder, bench.splits)
    base, took = _deployed_contender(bench)
    raced, unmeasured = _race_adapters(state, bench, base.items)
    every: dict[StartName, Contender] = {"base": base, **raced}
    starts: Starts = {name: _begun(raced.get(name), failed=name in unmeasured) for name in GENERATED}
    rewards = {name: summarise(one.items) for name, one in every.items()}
    start = best_start(rewards, {name: one.verdict for name, one in every.items() if one.verdict})
    chosen, adapters = bench.pack(every[start].model), state["adapters"]
    return {
        "adapters": {**adapters, "reason": "; ".join(filter(None, (adapters["reason"], *unmeasured.values())))},
        "base": bench.pack(base.model),
        "rules": _table(rules_of(bench), every),
        "best": chosen,
        "baseline": rewards["base"],
        "start": start,
        "started": chosen,
        "starts": starts,
        "best_reward": rewards[start],
        "best_items": f"items/{start}.jsonl",
        "evaluations": counted(None, *(one.measured for one in every.values())),
        "reward_seconds": took,
        **_known_of(bench, every[start].model, start, starts, state["drift"]),
    }


def judge_nothing(bench: Workbench) -> State:
    """Find the rule that takes the prior of unlabelled prompts off the deployed model's answers; judge nothing.

    Args:
        bench: of a task without labels.

    Source: Zhou et al., 2023 (batch calibration).
    """
    rule = next(rule for rule in RULES if rule.prior == "batch")
    asked, model = bench.splits.support, deployed(bench)
    if "batch" not in bench.priors:
        why = "a batch's prior needs choices that are the same words in every question"
        return {"ended": MISSING[0], "unjudged": Unjudged(prompts=len(asked), reason=why)}
    lm, task = bench.lm, bench.task
    model = bench.adapted(bench.pack(model))
    try:
        prior = prior_of(model.under(rule), 0, task, asked, asked, lm=lm, states=bench.states)
        plain = evaluate(task, asked, model, bench.protocol, lm=lm, states=bench.states, progress=bench.progress)
        ruled = answer_by(rule, task, asked, plain, prior, lm.profile.answer_style)
    except NotApplicableError as error:
        return {"ended": MISSING[0], "unjudged": Unjudged(prompts=len(asked), reason=str(error))}
    changed = sum(one.choice != other.choice for one, other in zip(plain, ruled, strict=True))
    found = Unjudged(answer_rule=rule, prior=dict(prior), changed=changed, prompts=len(asked))
    return {"ended": MISSING[0], "unjudged": found}


def _deployed_contender(bench: Workbench) -> tuple[Contender, float]:
    """Measure the deployed model under every rule; return it under its best one, and how long measuring it took."""
    _refuse_unreadable(bench)
    started, plain = time.monotonic(), deployed(bench)
    try:
        first = measure_part(bench, plain, "reward", "base")
    except NotApplicableError as error:
        raise InputError(f"the deployed model cannot be measured: {error}") from None
    expected = part_seconds(bench.speed, bench.task, bench.splits.reward, bench.protocol)
    took = max(time.monotonic() - started, expected / 2)  # a resumed process has its answers kept
    answers, failed = answers_by_rule(bench, plain, "base")
    rule = best_rule(answers)
    measure_part(bench, plain.under(rule), "reward", "base")  # its answers are the last ones in the file
    return Contender(plain.under(rule), answers[rule], first, _rewards(answers), failed), took


def _refuse_unreadable(bench: Workbench) -> None:
    """Refuse answers that are longer than the model reads, before anything is measured; no test question is read."""
    if bench.protocol != "likelihood":
        return
    lm, style, most = bench.lm, bench.lm.profile.answer_style, context_length(bench.lm)
    for example in (*bench.splits.reward, *bench.splits.test):
        branches = bench.task.query(example, style).branches
        if any(len(lm.encode(branch.scored, special=False)) >= most for branch in branches):
            asked = f"{bench.task.name}, question {example.question[:60]!r}"
            raise InputError(f"{asked}: an answer is longer than the model's context of {most} tokens")


def _race_adapters(
    state: State, bench: Workbench, base: list[Item]
) -> tuple[dict[StartName, Contender], dict[StartName, str]]:
    """Race each adapter that was made against the deployed model; return those measured, and why others were not."""
    made = [(name, ref) for name in GENERATED if (ref := bench.adapter(state["adapters"][name])) is not None]
    bar = Bar(CONFIDENT_LEVEL / max(1, len(made)))
    raced: dict[StartName, Contender] = {}
    unmeasured: dict[StartName, str] = {}
    for name, reference in made:
        try:
            raced[name] = _race_rules(bench, AdaptedModel(members=(reference,)), base, name, bar)
        except NotApplicableError as error:
            unmeasured[name] = f"the {name} adapter could not be measured: {error}"
    return raced, unmeasured


def _begun(one: Contender | None, *, failed: bool) -> Start | None:
    """Return what is recorded of an adapter as a start, None where there is no such adapter."""
    if one is None:
        return {"reward": None, "comparison": None, "dropped_after": None} if failed else None
    after = len(one.items) if one.measured.dropped else None
    return {"reward": summarise(one.items), "comparison": one.verdict, "dropped_after": after}


def _known_of(bench: Workbench, model: AdaptedModel, start: StartName, starts: Starts, drift: DriftReport) -> State:
    """Return what is known of the start, in sentences and in numbers; its own answers are the last ones in its file."""
    rule, found = model.answer_rule, perplexities(bench, model.members[0])
    by_rule, _ = answers_by_rule(bench, model, start)
    measure_part(bench, model, "reward", start)
    return {
        "observed": observe(start, starts, rule, found) if bench.config.policy_sees_measurements else [],
        "features": features(start, bench.splits.reward, by_rule, found, drift, labels="batch" in bench.priors),
    }


def answers_by_rule(
    bench: Workbench, model: AdaptedModel, name: str
) -> tuple[dict[AnswerRule, list[Item]], dict[AnswerRule, str]]:
    """Return a model's answers to the reward part under every rule, and why it has none under some.

    What was answered under one rule asks nothing anew.

    Args:
        bench: the workbench.
        model: under any rule.
        name: of the file that keeps them; its last answers are those under the last rule.

    Raises:
        NotApplicableError: it has none under the default rule.
    """
    return _by_rule(bench, lambda rule: measure_part(bench, model.under(rule), "reward", name).items)


def _by_rule(
    bench: Workbench, measured: Callable[[AnswerRule], T]
) -> tuple[dict[AnswerRule, T], dict[AnswerRule, str]]:
    """Return what is measured under every rule, and why nothing is under some; the default one's failure is raised."""
    found, failed = dict[AnswerRule, T](), dict[AnswerRule, str]()
    for rule in rules_of(bench):
        try:
            found[rule] = measured(rule)
        except NotApplicableError as error:
            if rule == RULES[0]:
                raise
            failed[rule] = str(error)
    return found, failed


def _rewards(answers: Mapping[AnswerRule, Sequence[Item]]) -> dict[AnswerRule, Reward]:
    return {rule: summarise(items) for rule, items in answers.items()}


def _race_rules(bench: Workbench, model: AdaptedModel, base: list[Item], name: GeneratedName, bar: Bar) -> Contender:
    """Race an adapter under every rule; return it under its best one, or under the one that lasted longest.

    What is answered under one rule is answered under all, so they ask together what the one that lasts longest asks.
    """
    raced, failed = _by_rule(bench, lambda rule: race_reward(bench, model.under(rule), base, name, bar))
    whole = {rule: one.items for rule, one in raced.items() if not one.dropped}
    able = {rule: one.items for rule, one in raced.items() if rule in whole or rule == RULES[0]}
    chosen = model.under(best_rule(able) if whole else max(raced, key=lambda rule: len(raced[rule].items)))
    measured = race_reward(bench, chosen, base, name, bar)
    return Contender(chosen, measured.items, measured, _rewards(whole), failed, judge(bench, base, measured, bar))


def _table(rules: Sequence[AnswerRule], every: Mapping[StartName, Contender]) -> list[RuleRewards]:
    """Return what each model scores under each rule, a row a rule."""
    rows = []
    for rule in rules:
        scored = {name: one.scores.get(rule) for name, one in every.items()}
        reasons = [f"{START_NAMES[name]}: {one.failed[rule]}" for name, one in every.items() if rule in one.failed]
        rows.append(RuleRewards.model_validate({"base": None, **scored, "rule": rule, "reason": "; ".join(reasons)}))
    return rows


def best_start(rewards: Mapping[StartName, Reward], verdicts: Mapping[StartName, Comparison]) -> StartName:
    """Return what the loop starts from: of the adapters that beat the deployed model the most accurate, or ``base``.

    Args:
        rewards: name → what it scores on the reward part.
        verdicts: name → how it compares with the deployed model.

    Returns:
        A key of ``verdicts``, or ``base``; of equally accurate ones the one with the lower log-loss.
    """
    eligible = [name for name, verdict in verdicts.items() if verdict.accepted]
    return max(eligible, key=lambda name: (rewards[name].score, -rewards[name].loss), default="base")

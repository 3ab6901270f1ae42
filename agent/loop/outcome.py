"""The test part, read once: every model on the way from the deployed one to what was adopted answers it."""

from agent.loop.answers import neutral_of
from agent.loop.loading import asks_by_chat
from agent.loop.reward import measure_part
from agent.loop.state import State, Workbench, accepted_strategies
from agent.record.answering import Answering
from agent.record.measurements import RULE_STEP, TestStep
from cao.strategy import strategy_text
from cao.types import AcceptRule, AdaptedModel, AnswerRule, Item
from tools.evaluate import prior_of
from tools.evaluate.priors import NEUTRAL
from tools.evaluate.statistics import compare, summarise

Tested = dict[str, list[Item]]
"""What made a step → the items on the test part behind it; the first one is the deployed model as it is."""

DEFAULT = "deployed model"


def test_steps(state: State, bench: Workbench) -> Tested:
    """Answer the test part by every model from the deployed one to the adopted one, each once.

    Args:
        state: the graph's state after the loop.
        bench: the workbench.

    Returns:
        The deployed model under the default answer rule, under its own best one where that is another, what the loop
        started from, and each accepted strategy.
    """
    base = bench.adapted(state["base"])
    models = {DEFAULT: base.under(AnswerRule())}
    if base.answer_rule != AnswerRule():
        models[RULE_STEP] = base
    accepted = accepted_strategies(state)
    steps = [bench.adapted(model) for model in state["steps"]]
    if state["start"] != "base":
        models[f"{state['start']} adapter"] = bench.adapted(state["started"])
    models |= {f"{n}. {strategy_text(s)}": model for n, (s, model) in enumerate(zip(accepted, steps, strict=True), 1)}
    names = ["test-default", *(f"test-step-{n}" for n in range(1, len(models)))]
    return {
        what: measure_part(bench, model, "test", name).items
        for name, (what, model) in zip(names, models.items(), strict=True)
    }


def step(rule: AcceptRule, before: tuple[str, list[Item]], after: tuple[str, list[Item]]) -> TestStep:
    """Return what one step changed on the test part."""
    (_, old), (what, new) = before, after
    verdict, reward = compare(old, new, rule), summarise(new)
    return TestStep(
        what=what,
        accuracy=reward.score,
        loss=reward.loss,
        accuracy_change=verdict.accuracy_change,
        loss_change=verdict.loss_change,
        loss_p_value=verdict.loss_p_value,
        p_value=verdict.mcnemar_p_value,
    )


def answering_of(bench: Workbench, model: AdaptedModel) -> Answering:
    """Return how a model is asked questions in this run; its adapters' priors come from kept hidden states.

    Args:
        bench: the workbench.
        model: what answers, its paths resolved.
    """
    task, support, prior = bench.task, bench.splits.support, model.answer_rule.prior
    members = range(len(model.members)) if prior == "batch" else ()
    found = (prior_of(model, one, task, support, support, lm=bench.lm, states=bench.states) for one in members)
    return Answering(
        chat=asks_by_chat(task, bench.config),
        max_new_tokens=task.max_new_tokens,
        stop=task.stop,
        neutral=neutral_of(bench) if prior == "choice" else len(NEUTRAL),
        priors=tuple(dict(one) for one in found),
    )

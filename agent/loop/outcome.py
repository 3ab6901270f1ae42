"""The test part, read once: every model on the way from the deployed one to what was adopted answers it."""

from agent.loop.answers import neutral_of
from agent.loop.loading import asks_by_chat
from agent.loop.reward import measure_part
from agent.loop.state import State, Workbench, accepted_strategies
from agent.record.answering import Answering
from agent.record.measurements import RULE_STEP, TestStep
from cao.errors import InputError, NotApplicableError
from cao.strategy import strategy_text
from cao.types import AcceptRule, AdaptedModel, AnswerRule, Item, Trial
from tools.evaluate import prior_of
from tools.evaluate.priors import NEUTRAL
from tools.evaluate.statistics import compare, summarise

Tested = dict[str, list[Item]]
"""What made a step → the items on the test part behind it; the first one is the deployed model as it is."""

DEFAULT = "deployed model"


def test_steps(state: State, bench: Workbench) -> tuple[Tested, State]:
    """Answer the test part by every model from the deployed one to the adopted one, each once.

    What cannot answer it is withdrawn, with all that was accepted on top of it: a finished loop is not lost, and
    nothing is adopted that was not confirmed.

    Args:
        state: the graph's state after the loop.
        bench: the workbench.

    Returns:
        The deployed model under the default answer rule, under its own best one where that is another, what the loop
        started from, and each accepted strategy; and what changes of the state where one was withdrawn.

    Raises:
        InputError: the deployed model itself cannot answer it.
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
    tested: Tested = {}
    for name, (what, model) in zip(names, models.items(), strict=True):
        try:
            tested[what] = measure_part(bench, model, "test", name).items
        except NotApplicableError as error:
            if what in (DEFAULT, RULE_STEP):
                raise InputError(f"the deployed model cannot answer the test questions: {error}") from None
            left = len(models) - len(tested)  # this one and those on top of it
            return tested, _withdrawn(state, len(steps) - left, str(error))
    return tested, {}


def _withdrawn(state: State, kept: int, why: str) -> State:
    """Return what changes of the state where a model cannot answer the test questions.

    Args:
        state: after the loop.
        kept: accepted strategies that stay; -1 where what the loop started from goes, too.
        why: it cannot.
    """
    trials, left = list[Trial](), kept
    for trial in state["trials"]:
        if trial.accepted and left <= 0:
            said = f"{trial.reason} Withdrawn: it could not answer the test questions ({why})."
            trial = trial.model_copy(update={"accepted": False, "reason": said})
        left -= trial.accepted
        trials.append(trial)
    stays = [trial for trial in trials if trial.accepted]
    found: State = {"trials": trials, "steps": state["steps"][: max(0, kept)], "accepted": bool(stays)}
    if kept < 0:
        found |= {"start": "base", "started": state["base"]}
    start = found.get("start", state["start"])
    begun = None if start == "base" else state["starts"][start]
    found["best"] = found["steps"][-1] if found["steps"] else found.get("started", state["started"])
    found["best_reward"] = stays[-1].reward if stays else begun["reward"] if begun else state["baseline"]
    return found


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

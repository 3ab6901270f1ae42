"""Applying a strategy in a run: what it is given of the questions, and once more for the test part where it must be.

A transductive strategy acts on the unlabelled questions about to be answered. So what is measured on the reward part is
made from the reward part's prompts, and what answers the test part is made anew, from the test part's prompts. Texts
alone are handed on, never examples: a label cannot pass.

Source: CAO-LLM §2.4, Algorithm 2.
"""

import shutil
from typing import Literal

from agent.budget.clock import Prices, pace_of
from agent.loop.reward import measure_part
from agent.loop.state import State, Workbench, accepted_strategies
from cao.errors import NotApplicableError
from cao.strategies import Strategy
from cao.strategy import restore_strategy
from cao.types import AdaptedModel
from tools.apply_strategy import apply_strategy
from tools.evaluate.serving import passes

Part = Literal["reward", "test"]
"""The part that the result is to answer."""


def apply_for(
    bench: Workbench,
    strategy: Strategy,
    model: AdaptedModel,
    part: Part,
    name: str,
    started: AdaptedModel | None = None,
) -> AdaptedModel:
    """Return a model with a strategy applied, as it answers one part of the task.

    Args:
        bench: the workbench.
        strategy: what to apply.
        model: what to apply it to.
        part: what the result is to answer; only a transductive strategy's result depends on it.
        name: of the folder in which a killed training leaves where it stood.
        started: what the loop started from, where strategies may have been accepted since.

    Raises:
        NotApplicableError: the strategy has nothing to act on at present, or diverges.
    """
    work = bench.folder / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    try:
        found = apply_strategy(
            strategy,
            bench.texts() if strategy.from_states else bench.prompts(part if strategy.transductive else "support"),
            bench.standing(model, started),
            bench.seed("apply", 1),  # for all attempts: equal batches give equal adapters, which answer once
            lm=bench.lm,
            store=bench.store,
            generator=bench.trained.generator,
            pool=bench.trained.pool,
            encoder=bench.encoded() if strategy.from_states else None,
            checkpoint=work / "ttl.safetensors",
            progress=bench.progress,
        )
    except NotApplicableError:
        shutil.rmtree(work)
        raise
    shutil.rmtree(work)  # only now: a kill or an interrupt leaves the training's checkpoint for the resumed run
    return found


def prices_of(state: State, bench: Workbench) -> Prices:
    """Return what is still to be paid for in the run's time: strategies, and the test part.

    Args:
        state: the state in the loop.
        bench: the workbench.
    """
    each = state.get("reward_seconds", 0.0) / len(bench.splits.reward)
    sizes = len(bench.splits.reward), len(bench.splits.test), len(bench.trained.pool)
    way = [*([state["started"]] if state["start"] != "base" else []), *state["steps"]]
    return Prices(
        bench.speed,
        pace_of(bench.speed, bench.texts(), each, *sizes),
        steps=sum(map(passes, way)),
        accepted=tuple(map(restore_strategy, accepted_strategies(state))),
    )


def remade_for_test(state: State, bench: Workbench) -> State:
    """Return the accepted models as they answer the test part, where one of their strategies is transductive.

    The accepted strategies are applied to the start once more, in their order. Where that fails, what was made for the
    reward part answers, and the note says why.

    Args:
        state: the state after the loop.
        bench: the workbench.

    Returns:
        ``steps`` and ``best`` anew, or nothing where the models serve both parts.
    """
    accepted = [restore_strategy(strategy) for strategy in accepted_strategies(state)]
    if not any(strategy.transductive for strategy in accepted):
        return {}
    started, steps = bench.adapted(state["started"]), list[AdaptedModel]()
    model = started
    try:
        for number, strategy in enumerate(accepted, 1):
            model = apply_for(bench, strategy, model, "test", f"test-{number}", started)
            measure_part(bench, model, "test", f"test-made-{number}")  # its answers are kept
            steps.append(bench.pack(model))
        made = "it is made for this run's test questions: for others, apply the strategy to those"
        return {"steps": steps, "best": steps[-1].model_copy(update={"note": f"{model.note}; {made}"})}
    except NotApplicableError as error:
        best = bench.adapted(state["best"])
        why = f"the strategy could not be applied anew to the test questions ({error})"
        note = f"{best.note}; {why}, so what was made for the reward questions answered them"
        return {"best": bench.pack(best.model_copy(update={"note": note}))}

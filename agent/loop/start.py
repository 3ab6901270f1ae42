"""What the loop starts from: the deployed model, the generated adapter or the aligned one, whichever measures best.

A generated adapter is judged like any proposal of the loop: it must beat the deployed model on the reward questions
under the run's rule of acceptance, and one without prospects is dropped early. So the loop never starts below the
deployed model.
"""

import time
from collections.abc import Mapping

from agent.budget.plan import part_seconds
from agent.loop.counts import counted
from agent.loop.observations import observe
from agent.loop.reward import judge, measure_part, race_reward
from agent.loop.state import Starts, State, Workbench
from agent.record.questions import keep_questions
from agent.record.schema import GENERATED, StartName
from cao.errors import InputError, NotApplicableError
from cao.model.adapters import save_adapter
from cao.types import AdaptedModel, Comparison, Reward
from tools.evaluate.statistics import summarise


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
            "caveats": [],
            "reason": "",
        },
        "baseline": None,
        "start": "base",
        "starts": {"generated": None, "aligned": None},
        "best_reward": None,
        "evaluations": counted(None),
        "proposal": None,
        "candidate": None,
        "trials": [],
        "max_attempts": bench.config.max_attempts,
        "accepted": False,
    }


def deployed(bench: Workbench) -> AdaptedModel:
    """Return the deployed model; an adapter that it carries is taken into the run's own store."""
    adapter = save_adapter(bench.store, bench.carried, bench.lm.source) if bench.carried else None
    return AdaptedModel(members=(adapter,))


def measure_starts(state: State, bench: Workbench) -> State:
    """Measure the deployed model on the reward part, race every generated adapter against it, and start from the best.

    What is started from is measured on every question; one that was dropped has the reward and the comparison of the
    questions that it answered. A kill inside costs a block of questions.

    Args:
        state: the state after ``align``.
        bench: the workbench.

    Source: CAO-LLM §2.4; the comparison with the deployed model is this project's.
    """
    started = time.monotonic()
    keep_questions(bench.folder, bench.splits)
    best = deployed(bench)
    try:
        measured = [measure_part(bench, best, "reward", "base")]
    except NotApplicableError as error:
        raise InputError(f"the deployed model cannot be measured: {error}") from None
    expected = part_seconds(bench.speed, bench.task, bench.splits.reward, bench.protocol)
    took = max(time.monotonic() - started, expected / 2)  # a resumed process has its answers kept
    base = measured[0].items
    rewards: dict[StartName, Reward] = {"base": summarise(base)}
    verdicts: dict[StartName, Comparison] = {}
    starts: Starts = {"generated": None, "aligned": None}
    adapters = state["adapters"].copy()
    for name in GENERATED:
        reference = bench.adapter(state["adapters"][name])
        if reference is None:
            continue
        try:
            measured.append(race_reward(bench, AdaptedModel(members=(reference,)), base, name))
        except NotApplicableError as error:
            starts[name] = {"reward": None, "comparison": None, "dropped_after": None}
            unmeasured = f"the {name} adapter could not be measured: {error}"
            adapters["reason"] = "; ".join(filter(None, (adapters["reason"], unmeasured)))
            continue
        rewards[name], verdicts[name] = summarise(measured[-1].items), judge(bench, base, measured[-1])
        starts[name] = {
            "reward": rewards[name],
            "comparison": verdicts[name],
            "dropped_after": len(measured[-1].items) if measured[-1].dropped else None,
        }
    start = best_start(rewards, verdicts)
    if start != "base":
        best = AdaptedModel(members=(bench.adapter(state["adapters"][start]),))
    seen = bench.config.policy_sees_measurements
    return {
        "adapters": adapters,
        "best": bench.pack(best),
        "baseline": rewards["base"],
        "start": start,
        "starts": starts,
        "best_reward": rewards[start],
        "best_items": f"items/{start}.jsonl",
        "evaluations": counted(None, *measured),
        "reward_seconds": took,
        "observed": observe(bench, start, starts, best.members[0]) if seen else [],
    }


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

"""The nodes: each takes what it needs from the state, calls one tool, and returns what changed.

Every node may be run twice: a kill inside one starts it again from its beginning. So nodes write files in one step
under names that depend on the attempt, and draw random numbers from seeds that depend on the purpose.
"""

import time
from collections.abc import Callable

from langgraph.runtime import Runtime

from agent.loop.applying import Part, apply_for, prices_of, remade_for_test
from agent.loop.conclude import conclude_run, conclude_unjudged
from agent.loop.counts import counted
from agent.loop.observations import policy_context
from agent.loop.outcome import test_steps
from agent.loop.reward import Bar, explain, judge, price_of, race_reward
from agent.loop.start import judge_nothing, measure_starts
from agent.loop.state import Context, State, Stored, Workbench, dump_state, load_state, workbench
from agent.record.page.drift import keep_picture
from agent.record.schema import NOT_TRIED
from cao.errors import NotApplicableError
from cao.inference.calls import heard
from cao.strategy import StrategyRejectedError, parse_strategy, restore_strategy
from cao.types import Trial
from policies.base import AsksServer, RequestForm, spent_on
from policies.describe import describe as describe_task
from tools.align_lora import AlignmentResult, align_lora
from tools.detect_drift import detect_drift
from tools.detect_drift.picture import drift_picture
from tools.detect_drift.reference import known_tasks
from tools.evaluate import load_items
from tools.evaluate.statistics import CONFIDENT_LEVEL, summarise
from tools.generate_lora import GenerationResult, generate_lora

Node = Callable[[State, Workbench], State]

RAW_KEPT = 2_000
"""Characters of a rejected proposal that are kept; the policy may write a megabyte."""


def describe(state: State, bench: Workbench) -> State:
    """Write the task context τ from question-answer pairs that no evaluation reads. Source: CAO-LLM §2.4."""
    description = describe_task(
        bench.config.describer,
        bench.task,
        bench.pairs(),
        settings=bench.config.policy_settings,
        lm=bench.lm,
        seed=bench.seed("describe"),
        offline=bench.config.offline,
    )
    return {"context": description}


def detect(state: State, bench: Workbench) -> State:
    """Test the support prompts against the known tasks, and keep what is drawn of it. Source: CAO-LLM §2.2."""
    texts, embeddings, seed = bench.texts(), bench.encoded().embeddings, bench.seed("detect")
    known = known_tasks(bench.config.reference, bench.encoder)
    report = detect_drift(texts, embeddings, known, encoder=bench.encoder, seed=seed)
    keep_picture(bench.folder, drift_picture(texts, embeddings, known, seed=seed))
    result: State = {"drift": report}
    if bench.config.reference and bench.config.when_no_drift == "stop" and report.kind == "none":
        return {
            **result,
            "ended": report.sentence,
            "adapters": {**state["adapters"], "reason": "no drift: none was made"},
        }
    return result


def generate(state: State, bench: Workbench) -> State:
    """Turn the support prompts into LoRA weights, where a trained generator exists. Source: CAO-LLM §2.2."""
    adapters = state["adapters"]
    if bench.config.adapter == "none":
        return {"adapters": {**adapters, "reason": "no adapter was asked for (--adapter none)"}}
    result = generate_lora(
        bench.texts(), lm=bench.lm, store=bench.store, encoder=bench.encoded(), generator=bench.trained.generator
    )
    made = bench.pack(result.adapter) if result.adapter else None
    caveats, reason = list(result.caveats), _missing(result)
    return {"adapters": {**adapters, "generated": made, "caveats": caveats, "reason": reason}}


def align(state: State, bench: Workbench) -> State:
    """Align the generated weights to the task, where a trained aligner exists. Source: CAO-LLM §2.3."""
    adapters = state["adapters"].copy()
    generated = bench.adapter(adapters["generated"])
    if generated and bench.config.adapter == "generated":
        adapters["reason"] = "no alignment was asked for (--adapter generated)"
    elif generated:
        result = align_lora(
            generated,
            bench.prompts(),
            lm=bench.lm,
            store=bench.store,
            aligner=bench.trained.aligner,
            variant=bench.trained.variant,
        )
        adapters["aligned"] = bench.pack(result.adapter) if result.adapter else None
        adapters["reason"] = _missing(result)
    return {"adapters": adapters}


def choose(state: State, bench: Workbench) -> State:
    """Measure the deployed model and the adapters on the reward part, and choose what the loop starts from."""
    return measure_starts(state, bench) if bench.task.labelled else judge_nothing(bench)


def decide(state: State, bench: Workbench) -> State:
    """Ask the policy for one strategy; what is not one is recorded and counts as an attempt."""
    if ended := state.get("ended"):
        return {"ended": ended}
    started = time.monotonic()
    attempt = len(state["trials"]) + 1
    prices = prices_of(state, bench)
    if bench.clock.left < prices.reserve() + prices.again() + prices.attempt():
        return {"out_of_time": True}
    raw, form = _ask_policy(state, bench, attempt)
    try:
        strategy = bench.config.ttl.added(parse_strategy(raw))
        if strategy.canonical() in spent_on(state["trials"]):
            raise StrategyRejectedError("already tried in this run")
    except StrategyRejectedError as error:
        kept = raw[:RAW_KEPT].encode("utf-8", "replace").decode()
        seconds = time.monotonic() - started
        trial = Trial(attempt=attempt, raw=kept, accepted=False, reason=f"rejected: {error}", seconds=seconds)
        return {"trials": [*state["trials"], trial], "request_form": form}
    seconds = time.monotonic() - started
    return {"proposal": strategy.canonical(), "proposal_seconds": seconds, "request_form": form}


def _ask_policy(state: State, bench: Workbench, attempt: int) -> tuple[str, RequestForm | None]:
    """Return the policy's text, and the form of request that its server took, None where there is no server.

    What a server refused once in this run, of the describer or before a kill, it is not asked for again.
    """
    policy = bench.policy
    known = state.get("request_form") or state["context"].form
    if isinstance(policy, AsksServer) and known:
        policy.form = known
    raw = policy.propose(policy_context(state, bench), 1, bench.seed("decide", attempt))[0]
    return raw, policy.form if isinstance(policy, AsksServer) else None


def apply(state: State, bench: Workbench, part: Part = "reward") -> State:
    """Apply the proposed strategy for a part; one that has nothing to act on is recorded as a rejection."""
    started, name = time.monotonic(), f"attempt-{len(state['trials']) + 1}"
    assert state["proposal"] is not None  # the graph's router
    strategy = restore_strategy(state["proposal"])
    needed, left = prices_of(state, bench).whole(strategy), bench.clock.left
    if needed > left:
        reason = f"{NOT_TRIED}it would take about {needed:.0f} s with its test questions, {max(0, left):.0f} s are left"
        return {"trials": _refused(state, reason, started), "proposal": None}
    try:
        best, started_from = bench.adapted(state["best"]), bench.adapted(state["started"])
        candidate = apply_for(bench, strategy, best, part, name, started_from)
    except NotApplicableError as error:
        return {"trials": _refused(state, f"not applied: {error}", started), "proposal": None}
    return {
        "candidate": bench.pack(candidate),
        "proposal_seconds": state["proposal_seconds"] + time.monotonic() - started,
    }


def evaluate(state: State, bench: Workbench) -> State:
    """Measure a candidate on the reward part, against the best so far."""
    started = time.monotonic()
    attempt = len(state["trials"]) + 1
    name = f"attempt-{attempt}"
    candidate, best = bench.adapted(state["candidate"]), load_items(bench.folder / state["best_items"])
    assert state["proposal"] is not None  # the graph's router
    strategy = restore_strategy(state["proposal"])
    bar = Bar(CONFIDENT_LEVEL / state["max_attempts"], price_of(state, bench, candidate, strategy))
    prices = prices_of(state, bench)
    besides = prices.again(strategy) + prices.settled
    try:
        measured = race_reward(bench, candidate, best, name, bar, besides)
    except NotApplicableError as error:
        return {"trials": _refused(state, f"not measured: {error}", started), "proposal": None, "candidate": None}
    verdict, reward = judge(bench, best, measured, bar), summarise(measured.items)
    trial = Trial(
        attempt=attempt,
        strategy=state["proposal"],
        accepted=verdict.accepted,
        reason=f"{explain(verdict, measured)}. {candidate.note}".strip(),
        reward=reward,
        comparison=verdict,
        dropped_after=len(measured.items) if measured.dropped else None,
        dropped_members=measured.members if measured.members < measured.of else None,
        seconds=state["proposal_seconds"] + time.monotonic() - started,
    )
    update: State = {
        "trials": [*state["trials"], trial],
        "evaluations": counted(state["evaluations"], measured),
        "proposal": None,
        "candidate": None,
    }
    if verdict.accepted:
        update["best"] = bench.pack(candidate)
        update["best_reward"] = reward
        update["best_items"] = f"items/{name}.jsonl"
        update["accepted"] = True
        update["steps"] = [*state["steps"], bench.pack(candidate)]
    return update


def conclude(state: State, bench: Workbench) -> State:
    """Read the test part once, for the deployed model and for what the run adopted, and write the outcome."""
    if not bench.task.labelled:
        return conclude_unjudged(bench)
    made = remade_for_test(state, bench)
    tested, withdrawn = test_steps({**state, **made}, bench)
    after: State = {**state, **made, **withdrawn}
    improved = after["accepted"] or after["start"] != "base"
    update = conclude_run(after, bench, tested, improved=improved)
    return {"status": "improved" if improved else "no_improvement", **made, **withdrawn, **update}


def traced(name: str, node: Node) -> Callable[..., Stored]:
    """Return the node as LangGraph calls it, between what checkpoints hold, with its start and end in the trace."""

    def run(stored: Stored, runtime: Runtime[Context]) -> Stored:
        return recorded(name, node, stored, workbench(runtime.context))

    return run


def recorded(name: str, node: Node, stored: Stored, bench: Workbench) -> Stored:
    """Run a node on what checkpoints hold; return what it changes there. Its start, calls and end go into the trace."""
    started = time.monotonic()  # before the start is written: no call then ends after its node in the trace
    bench.record(name, "start", {})
    with heard(lambda call: bench.record(name, "call", call.model_dump(mode="json", exclude_none=True))):
        update = dump_state(node(load_state(stored), bench))
    bench.record(name, "end", _summary(name, update), seconds=time.monotonic() - started)
    return update


def _summary(name: str, update: Stored) -> Stored:
    """Return the small part of a state update that a trace is read for."""
    kept = (
        "out_of_time",
        "context",
        "drift",
        "adapters",
        "baseline",
        "rules",
        "start",
        "starts",
        "proposal",
        "accepted",
        "status",
        "test",
        "ended",
        "unjudged",
    )
    data = {key: update[key] for key in kept if key in update}
    if isinstance(candidate := update.get("candidate"), dict):
        data["applied"] = candidate["note"]
    if name != "conclude" and isinstance(trials := update.get("trials"), list) and trials:
        data["trial"] = trials[-1]
    return data


def _refused(state: State, reason: str, started: float) -> list[Trial]:
    """Return the attempts with one more: a valid strategy that could not be applied or measured."""
    trial = Trial(
        attempt=len(state["trials"]) + 1,
        strategy=state["proposal"],
        accepted=False,
        reason=reason,
        seconds=state["proposal_seconds"] + time.monotonic() - started,
    )
    return [*state["trials"], trial]


def _missing(result: GenerationResult | AlignmentResult) -> str:
    return f"{result.reason}; {result.command}" if result.command else result.reason


NODES: dict[str, Node] = {
    "describe": describe,
    "detect": detect,
    "generate": generate,
    "align": align,
    "choose": choose,
    "decide": decide,
    "apply": apply,
    "evaluate": evaluate,
    "conclude": conclude,
}

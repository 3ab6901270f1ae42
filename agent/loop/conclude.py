"""The end of a run: what the test part said, and the files that a person takes away."""

import math
import os
import shutil
import statistics
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise, starmap

import cao
from agent.loop.counts import summary
from agent.loop.outcome import DEFAULT, Tested, answering_of, step
from agent.loop.request import RunHeader, missing
from agent.loop.state import Made, State, Workbench, accepted_strategies
from agent.record.answering import write_answering
from agent.record.measurements import RULE_STEP, Detectable, PartScore, Rewards, TestPart
from agent.record.schema import AdapterFile, Adapters, Adopted, Computed, RunRecord, Together
from agent.record.trace_file import read_trace
from cao.files import write_json
from cao.model.profiles import NOT_THE_HUBS
from cao.types import AdaptedModel, Item, Reward
from policies.base import adapter_of
from tools.evaluate import load_items, save_items
from tools.evaluate.statistics import compare, differences, smallest_detectable, summarise
from tools.evaluate.temperature import losses
from tools.evaluate.written import are_written

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "langgraph",
    "sentence-transformers",
    "datasets",
    "openai",
    "llguidance",
)


def conclude_run(state: State, bench: Workbench, tested: Tested, *, improved: bool) -> State:
    """Write strategy.json, adapter/ and the outcome of a finished loop; return ``test`` and ``adopted``.

    Args:
        state: the graph's state after the loop.
        bench: the workbench.
        tested: what ``test_steps`` returned.
        improved: whether anything was adopted.
    """
    base = tested.get(RULE_STEP, tested[DEFAULT])
    adapted = list(tested.values())[-1]
    save_items(bench.folder / "items" / "test-baseline.jsonl", base)
    save_items(bench.folder / "items" / "test-adapted.jsonl", adapted)
    verdict = compare(base, adapted, bench.config.accept)
    deployed = _score(summarise(base))
    test = TestPart(
        default=_score(summarise(tested[DEFAULT])),
        baseline=deployed,
        adapted=_score(summarise(adapted)),
        steps=tuple(starmap(partial(step, bench.config.accept), pairwise(tested.items()))),
        chance=deployed.chance or None,
        p_value=verdict.mcnemar_p_value,
        loss_change=verdict.loss_change,
        loss_p_value=verdict.loss_p_value,
    )
    adopted = adopted_of(state, bench) if improved else None
    write_answering(bench.folder, answering_of(bench, bench.adapted(state["best" if improved else "base"])))
    write_json(bench.folder / "strategy.json", adopted and adopted.model_dump(mode="json"))
    return {"test": test, "adopted": adopted}


def conclude_unjudged(bench: Workbench) -> State:
    """Write the outcome of a run without labels: nothing was measured, so nothing is adopted."""
    write_answering(bench.folder, answering_of(bench, AdaptedModel()))
    write_json(bench.folder / "strategy.json", None)
    return {"status": "no_improvement", "test": None, "adopted": None}


def _score(reward: Reward) -> PartScore:
    return PartScore(accuracy=reward.score, **reward.model_dump(exclude={"score"}))


def adopted_of(state: State, bench: Workbench) -> Adopted:
    """Return the adopted start and strategy, and copy the adapter that holds them to ``adapter/``."""
    model = bench.adapted(state["best"])
    target = bench.folder / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    first = model.members[0] if len(model.members) == 1 else None
    if first is not None:
        shutil.copytree(first.path, target)
        (target / "README.md").write_text(
            _card(bench, "soft prompt" if first.virtual_tokens else "LoRA adapter"), encoding="utf-8"
        )
    together = None
    if len(model.members) > 1:
        paths = [os.path.relpath(member.path, bench.folder) if member else None for member in model.members]
        routes = os.path.relpath(model.centroids, bench.folder) if model.centroids else None
        together = Together(adapters=tuple(paths), method=model.method, routes=routes)
    accepted = accepted_strategies(state)
    return Adopted(
        start=state["start"],
        strategy=accepted[-1] if accepted else None,
        strategies=tuple(accepted),
        answer_rule=model.answer_rule,
        latent=model.latent,
        adapter=AdapterFile(path="adapter", sha256=first.sha256) if first else None,
        together=together,
        note=model.note,
    )


def _card(bench: Workbench, kind: str) -> str:
    """Return what stands beside the adapter of a kind: which weights it belongs to, and how to put it on them."""
    lm, config = bench.lm, bench.config
    told = [f"Base model: {lm.profile.name}, `{lm.source}`, sha256 of its weights {lm.sha256[:16]}…"]
    if lm.profile.dequantised and config.model_path is None:
        told.append(f"{NOT_THE_HUBS}.")
    if config.start_adapter and bench.carried is None:
        told.append(f"Merge the adapter `{config.start_adapter}` into it first: this one was made on top.")
    load = 'model = AutoPeftModelForCausalLM.from_pretrained("adapter")'
    code = f"```python\nfrom peft import AutoPeftModelForCausalLM\n\n{load}\n```"
    return "\n\n".join([f"# A {kind} in PEFT format", *told, code]) + "\n"


def run_record(
    state: State, bench: Workbench, header: RunHeader, *, overhead_share: float | None, peak_memory_mb: float
) -> RunRecord:
    """Return what run.json says, from the final state, the trace and what ``config.json`` says of the run."""
    timing: dict[str, float] = {}
    for event in read_trace(bench.folder):
        if event["event"] == "end":
            timing[event["node"]] = round(timing.get(event["node"], 0.0) + event["seconds"], 3)
    context = state["context"]
    return RunRecord(
        run_id=header.run_id,
        status="improved" if state["status"] == "improved" else "no_improvement",
        reason=state.get("ended"),
        task=bench.task.name,
        model=bench.config.model,
        model_sha256=bench.lm.sha256,
        policy=bench.policy.name,
        policy_adapter=adapter_of(bench.policy),
        describer=context.source,
        request_forms={"describer": context.form, "policy": state.get("request_form")},
        seed=bench.config.seed,
        protocol=bench.protocol,
        splits={part: len(getattr(bench.splits, part)) for part in ("support", "reward", "test")},
        available=bench.splits.available,
        drift=state["drift"],
        context=context.text,
        context_note=context.note,
        adapters=_adapters(state["adapters"]),
        trials=tuple(state["trials"]),
        attempts=len(state["trials"]),
        reward=_rewards(state),
        evaluations=summary(state["evaluations"]),
        smallest_detectable=None if state.get("ended") else smallest_seen(bench, state),
        adopted=state["adopted"],
        test=state["test"],
        data=bench.task.reading,
        missing=missing(bench.task),
        unjudged=state.get("unjudged"),
        timing_s=timing,
        seconds=round(sum(timing.values()), 3),
        overhead_share=None if overhead_share is None else round(overhead_share, 5),
        peak_memory_mb=round(peak_memory_mb, 1),
        created=header.created,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        dtype=bench.lm.dtype,
        compute=_computed(bench, header),
        versions=versions(),
        config=bench.config.model_dump(mode="json"),
    )


def _computed(bench: Workbench, header: RunHeader) -> Computed:
    """Return what the run's last process computed with; the dtype is that of all of them."""
    lm = bench.lm
    found = lm.compute.model_dump() if lm.compute else {"dtype": lm.dtype, "device": lm.device}
    return Computed(**found, asked=header.dtype_asked or found["dtype"])


def _adapters(made: Made) -> Adapters:
    """Return what was made before the loop, the adapters by where they lie now."""
    generated, aligned = (
        ref and AdapterFile(path=f"adapters/{ref.sha256}", sha256=ref.sha256)
        for ref in (made["generated"], made["aligned"])
    )
    return Adapters(
        generated=generated,
        aligned=aligned,
        variant=made["variant"],
        saw_task=made["saw_task"],
        saw_questions=made.get("saw_questions"),
        caveats=tuple(made["caveats"]),
        reason=made["reason"],
    )


def _rewards(state: State) -> Rewards:
    """Return the reward part: the deployed model, what the loop could start from, and what it reached."""
    starts = state["starts"]
    return Rewards(
        baseline=state["baseline"],
        generated=starts["generated"] and starts["generated"]["reward"],
        aligned=starts["aligned"] and starts["aligned"]["reward"],
        start=state["start"],
        best=state["best_reward"],
        comparisons={name: start and start["comparison"] for name, start in starts.items()},
        dropped_after={name: start and start["dropped_after"] for name, start in starts.items()},
        rules=tuple(state["rules"]),
        answer_rules={"baseline": state["base"].answer_rule, "best": state.get("best", state["base"]).answer_rule},
    )


def smallest_seen(bench: Workbench, state: State) -> Detectable:
    """Return the smallest differences that the reward part could have seen, at one-sided .1 with power .8.

    They follow from the spread of the paired differences from the best before an attempt: a wild one spreads widely. So
    the adopted attempt is taken, else the median of those that were measured, else that of the generated adapters;
    without any, the start's own spread, as if start and candidate were unrelated. What was dropped has
    the spread of the questions that it answered, which are the first ones.
    """
    base, start = (load_items(bench.folder / "items" / f"{name}.jsonl") for name in ("base", state["start"]))
    measured = [trial for trial in state["trials"] if trial.reward is not None]
    before, adopted, refused = start, list[tuple[list[Item], list[Item]]](), list[tuple[list[Item], list[Item]]]()
    for trial in measured:
        answered = load_items(bench.folder / "items" / f"attempt-{trial.attempt}.jsonl")
        (adopted if trial.accepted else refused).append((before, answered))
        before = answered if trial.accepted else before
    pairs = adopted or refused
    if not pairs:
        made = [name for name, begun in state["starts"].items() if begun and begun["reward"]]
        pairs = [(base, load_items(bench.folder / "items" / f"{name}.jsonl")) for name in made]
    spreads = [statistics.stdev(differences(first[: len(new)], new).tolist()) for first, new in pairs]
    flips = [
        statistics.stdev([float(new.correct) - old.correct for old, new in zip(*pair, strict=False)]) for pair in pairs
    ]
    unrelated = math.sqrt(2)
    loss = statistics.median(spreads) if spreads else unrelated * statistics.stdev(losses(base).tolist())
    flip = statistics.median(flips) if flips else unrelated * statistics.stdev([float(item.correct) for item in base])
    n = len(base)  # accuracy moves by whole questions, so nothing below one of them can be seen
    seen = None if are_written(base) else smallest_detectable(loss, n) or None
    return Detectable(loss=seen, accuracy=max(1 / n, smallest_detectable(flip, n)))


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"cao-llm": cao.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found

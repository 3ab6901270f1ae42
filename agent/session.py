"""One run from beginning to end: check everything, load once, drive the graph, write the outcome, resume."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agent.budget.clock import Clock, timed_speed
from agent.budget.fit import fit
from agent.budget.plan import STARTS, Speed
from agent.config import RunConfig, make_config
from agent.graph import build_graph, mermaid
from agent.loop.conclude import run_record
from agent.loop.kept import check, prune
from agent.loop.request import Request, read_stored, read_task, refuse_changes
from agent.loop.run_folder import (
    Recorder,
    carry_over,
    checkpointer,
    locked,
    new_run_folder,
    read_history,
    read_state,
    sweep,
)
from agent.loop.start import first_state
from agent.loop.state import NO_TIME, Context, Workbench
from agent.loop.trained import find_trained
from agent.record.commands import resume_command, trace_command
from agent.record.report import write_report
from agent.record.runs import find_run
from agent.record.terminal import View, make_view, print_summary
from cao.errors import InputError, UnavailableError
from cao.files import sha256_bytes, write_json
from cao.machine import assets
from cao.machine.compute import choose_compute
from cao.model.encoder import Encoder
from cao.model.loading import check_device, load_language_model
from cao.model.profiles import MODELS
from cao.model.start_adapter import put_on
from cao.progress import say, told
from cao.tasks.base import Task
from cao.tasks.splits import Splits
from cao.types import Protocol
from policies.describe import check_describer
from policies.registry import build_policy
from tools.evaluate import KeptStates

STEPS_ONCE, STEPS_PER_ATTEMPT = 10, 3
"""Graph steps outside and inside the loop: LangGraph's recursion limit follows from them."""

MADE_AGAIN = {"evaluate": "apply"}
"""Where a replay begins in place of a node that reads what a finished run does not keep: the candidate's adapter."""


def command(asked: Request, *, as_json: bool, began: float | None = None) -> int:
    """Do what ``python -m agent.run`` was asked for and return the exit status."""
    refuse_other_graph(asked.stored)
    view = make_view()
    try:
        record = run(asked, view=view, began=began)
    finally:
        view.close()
    _tell(record, Path(asked.config.out) / record["run_id"], as_json=as_json)
    return 0


def _tell(record: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    """Print the outcome, as one JSON object or for people."""
    if as_json:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    else:
        print_summary(record, str(folder))


def refuse_other_graph(stored: dict[str, Any]) -> None:
    """Raise InputError where a run would be resumed with another version of the graph."""
    if stored and stored["graph_sha256"] != _graph_sha256():
        raise InputError(f"run {stored['run_id']} was started by another version of the graph; start a new run")


def _graph_sha256() -> str:
    return sha256_bytes(mermaid().encode())


def build_workbench(
    config: RunConfig, task: Task, splits: Splits, protocol: Protocol, view: View, began: float | None = None
) -> Workbench:
    """Load what the nodes work with: model, encoder, policy. Nothing is written; the folder comes later.

    Args:
        config: the run's configuration, its dtype settled.
        task: what to adapt to.
        splits: its questions.
        protocol: how answers are judged.
        view: what shows the progress.
        began: when the command began, by ``time.monotonic``; a time budget counts from there.

    Raises:
        UnavailableError: a model, key, package or device is not at hand.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    check_describer(config.describer, config.policy_settings, offline=config.offline)
    profile = MODELS[config.model]
    with told("loading the language model"):
        lm = load_language_model(
            profile, path=config.model_path, device=config.device, dtype=config.dtype, offline=config.offline
        )
    carried = put_on(lm, Path(config.start_adapter)) if config.start_adapter else None
    if config.start_adapter and carried is None:
        say(
            f"{config.start_adapter} is more than added matrices: merged into {lm.profile.name}; the run builds on that"
        )
    policy = build_policy(config.policy, config.policy_settings, lm=lm, offline=config.offline)
    encoder = Encoder(assets.minilm_folder(), config.device)
    trained = find_trained(lm.sha256, task.name, config.variant, align=config.adapter == "aligned")
    return Workbench(
        config=config,
        folder=Path(),  # the run's folder and its trace come once all of this is there
        task=task,
        splits=splits,
        protocol=protocol,
        lm=lm,
        encoder=encoder,
        policy=policy,
        trained=trained,
        states=KeptStates(),
        record=lambda *_, **__: None,
        progress=view.progress,
        clock=Clock(60 * config.minutes if config.minutes else None, began=began or time.monotonic()),
        speed=Speed.of(lm.compute, config.model) if lm.compute else NO_TIME,
        carried=carried,
    )


def _trained_hashes(bench: Workbench) -> dict[str, str]:
    """Return the hash of every trained part that the run works with."""
    policy = getattr(bench.policy, "adapter_sha256", None)
    return {**bench.trained.hashes(), **({"policy": policy} if policy else {})}


def _refuse_other_weights(stored: dict[str, Any], bench: Workbench) -> None:
    """Raise InputError where a run would go on with another model, generator or aligner than it was started with."""
    run_id, before, now = stored["run_id"], stored["pretrained"], _trained_hashes(bench)
    if stored["model_sha256"] != bench.lm.sha256:
        raise InputError(f"run {run_id} was started with another {bench.config.model}; start a new run")
    for part in sorted({*before, *now}):
        if before.get(part) != now.get(part):
            had, has = ((found.get(part) or "none")[:12] for found in (before, now))
            raise InputError(f"run {run_id} was started with {part} {had}, now it is {has}; start a new run")


def run(request: Request, *, view: View, began: float | None = None) -> dict[str, Any]:
    """Run the graph to its end, from the start or from where a killed process left it.

    Args:
        request: what is asked for.
        view: what shows the progress.
        began: when the command began, by ``time.monotonic``; a time budget counts from there.

    Returns:
        The object of ``run.json``.
    """
    config, stored = request.config, request.stored
    check_device(config.device)
    asked = config.dtype
    config = config.model_copy(update={"dtype": choose_compute(asked, config.device).dtype})
    bench = build_workbench(config, request.task, request.splits, request.protocol, view, began)
    if stored:
        _refuse_other_weights(stored, bench)
        folder, header = find_run(Path(config.out), stored["run_id"]), stored
    else:
        bench = _fitted(bench, view)
        config = bench.config
        with new_run_folder(Path(config.out), request.task.name) as (name, place):
            header = {
                "run_id": name,
                "created": _now(),
                "config": config.model_dump(mode="json"),
                "dtype_asked": asked,
                "fingerprint": config.fingerprint(),
                "graph_sha256": _graph_sha256(),
                "model_sha256": bench.lm.sha256,
                "pretrained": _trained_hashes(bench),
            }
            write_json(place / "config.json", header)
        folder = Path(config.out) / name
    with locked(folder), _saying_how_to_go_on(folder):
        sweep(folder)
        return drive(bench, folder, header, view)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextmanager
def _saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Say how a run is resumed that was interrupted, or that lacked something on its way."""
    try:
        yield
    except (KeyboardInterrupt, UnavailableError) as error:
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        sys.stderr.write(f"\n{what}; go on with: {resume_command(folder.name, folder.parent)}\n")
        raise


def _fitted(bench: Workbench, view: View) -> Workbench:
    """Return the workbench with sizes that fit into the time budget, where there is one, and say which.

    Raises:
        InputError: not even the smallest run fits.
    """
    config = bench.config
    if config.minutes is None:
        return bench
    view.progress("timing a few prompts", 0, 0)
    speed = timed_speed(bench.speed, bench.lm, bench.task, bench.splits.support, bench.protocol)
    starts = STARTS[config.adapter] if bench.trained.generator else 1
    found = fit(config, speed, bench.task, bench.splits, bench.protocol, starts, bench.clock.left)
    view.say(found.told())
    task, splits, protocol = read_task(found.config)
    return replace(bench, config=found.config, task=task, splits=splits, protocol=protocol, speed=speed)


def drive(bench: Workbench, folder: Path, header: dict[str, Any], view: View) -> dict[str, Any]:
    """Stream the graph over the run's checkpoints and write ``run.json`` and the report."""
    recorder = Recorder(folder, view)
    clock = replace(bench.clock, spent=recorder.spent_s)
    bench = replace(bench, folder=folder, record=recorder, clock=clock)
    thread: Any = {
        "configurable": {"thread_id": header["run_id"]},
        "recursion_limit": STEPS_ONCE + STEPS_PER_ATTEMPT * bench.config.max_attempts,
    }
    with checkpointer(folder) as saver:
        graph = build_graph().compile(checkpointer=saver)
        started = time.monotonic()
        snapshot = read_state(graph, thread, folder)
        # ``next`` cannot tell: it is empty too where a kill fell between a node's writes and its checkpoint
        finished = "test" in snapshot.values
        if finished and (folder / "run.json").exists():
            return _completed(folder, read_finished(folder), read_history(graph, thread, folder))
        if snapshot.created_at and not finished:
            check(folder, snapshot.values, bench.lm.sha256)
            at = snapshot.next[0] if snapshot.next else "the step after the last one"
            recorder(at, "resume", {"at": at})
        if not finished:
            start = None if snapshot.created_at else first_state(bench)
            context: Context = {"workbench": bench}
            for _ in graph.stream(start, thread, context=context, durability="sync", stream_mode="updates"):
                pass
        total = time.monotonic() - started
        state: Any = graph.get_state(thread).values
        history = read_history(graph, thread, folder)
    record = run_record(
        state,
        bench,
        header,
        overhead_share=max(0.0, total - recorder.busy_s) / total,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    write_json(folder / "run.json", record)
    (folder / "report.html").unlink(missing_ok=True)  # of an outcome before this one
    return _completed(folder, record, history)


def _completed(folder: Path, record: dict[str, Any], history: list[Any]) -> dict[str, Any]:
    """Return the outcome once nothing is left to do: a kill may have come before the report, or before the pruning."""
    if not (folder / "report.html").exists():
        write_report(folder)
    prune(folder, [snapshot.values for snapshot in history])
    return record


def read_finished(folder: Path) -> dict[str, Any]:
    """Return the outcome of a run that has ended; nothing of it is measured or written again."""
    try:
        record = json.loads((folder / "run.json").read_bytes())
        if not isinstance(record, dict) or record["run_id"] != folder.name:
            raise ValueError("another run's")
        return record
    except (OSError, ValueError, KeyError, RecursionError):
        raise InputError(f"{folder / 'run.json'}: damaged; delete it and resume to have it written again") from None


def replay(out: Path, run_id: str, node: str, *, as_json: bool = False) -> int:
    """Fork a run before a node and go on from there in a run of its own.

    Args:
        out: the folder of runs.
        run_id: the run to fork; it stays as it is.
        node: the node to start with, at its first visit; a candidate to evaluate is made again before.
        as_json: print run.json's object instead of the summary.

    Returns:
        The exit status.

    Raises:
        InputError: the run never came to that node, or cannot be read.
    """
    source = find_run(out, run_id)
    stored = read_stored(out, run_id)
    config = make_config(None, {**stored["config"], "out": str(out)}, [])
    refuse_changes(stored, config)
    refuse_other_graph(stored)
    task, splits, protocol = read_task(config)
    view = make_view()
    try:
        bench = build_workbench(config, task, splits, protocol, view)
        _refuse_other_weights(stored, bench)
        folder, header = _fork(bench, source, stored, MADE_AGAIN.get(node, node))
        with locked(folder), _saying_how_to_go_on(folder):
            record = drive(bench, folder, header, view)
    finally:
        view.close()
    _tell(record, folder, as_json=as_json)
    return 0


def _fork(bench: Workbench, source: Path, stored: dict[str, Any], node: str) -> tuple[Path, dict[str, Any]]:
    """Make a run that stands where another one came to a node; return its folder and what its ``config.json`` holds."""
    with checkpointer(source) as saver:
        graph = build_graph().compile(checkpointer=saver)
        history = read_history(graph, {"configurable": {"thread_id": source.name}}, source)
    position = next((i for i, snapshot in enumerate(history) if snapshot.next == (node,)), None)
    if position is None:
        shown = trace_command("show", source.parent, source.name)
        raise InputError(f"run {source.name} never came to {node!r}; {shown} lists its nodes")
    values = history[position].values
    check(source, values, bench.lm.sha256)
    before = history[position - 1].next[0] if position else "__start__"
    with new_run_folder(source.parent, bench.task.name) as (name, place):
        forked = {"run_id": source.name, "node": node}
        header = {**stored, "run_id": name, "created": _now(), "replay_of": forked}
        carry_over(source, place)
        with checkpointer(place) as saver:
            fork = build_graph().compile(checkpointer=saver)
            fork.update_state({"configurable": {"thread_id": name}}, values, as_node=before)
        write_json(place / "config.json", header)
    return source.parent / name, header

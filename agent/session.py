"""One run from beginning to end: check everything, load once, drive the graph, write the outcome, resume."""

import json
import resource
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from agent.commands import resume_command, trace_command
from agent.config import RunConfig, make_config, merge
from agent.console import View, make_view, print_summary
from agent.graph import build_graph, mermaid
from agent.outcome import run_record
from agent.plan import START_UP_SECONDS, STARTS, Speed, print_plan
from agent.report import write_report
from agent.runs import find_run
from agent.state import NO_TIME, Context, State, Workbench
from agent.time_budget import Clock, fit, timed_speed
from agent.trained import find_trained
from agent.workspace import Recorder, carry_over, checkpointer, locked, new_run_folder
from cao import assets
from cao.adapters import load_adapter
from cao.compute import choose_compute
from cao.encoder import Encoder
from cao.errors import InputError
from cao.files import sha256_bytes, write_json
from cao.language_model import check_device, load_language_model
from cao.models import MODELS
from cao.progress import told
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.parts import Splits, split
from cao.types import Protocol
from policies.describe import DESCRIBERS, check_describer
from policies.registry import POLICIES, build_policy
from tools.detect_drift.reference import check_sources
from tools.evaluate import KeptStates

STEPS_ONCE, STEPS_PER_ATTEMPT = 10, 3
"""Graph steps outside and inside the loop: LangGraph's recursion limit follows from them."""


class RunHeader(BaseModel):
    """What ``config.json`` holds: enough to resume a run, and to refuse another one in its place."""

    model_config = ConfigDict(extra="allow")

    run_id: str
    created: str
    config: dict[str, Any]
    fingerprint: dict[str, Any]
    graph_sha256: str
    model_sha256: str
    pretrained: dict[str, str]


def command(
    options: dict[str, Any],
    *,
    file: Path | None,
    assignments: list[str],
    resume: str | None,
    as_json: bool,
    dry_run: bool,
    began: float | None = None,
) -> int:
    """Do what ``python -m agent.run`` asks for and return the exit status."""
    stored = read_stored(Path(options.get("out", "runs")), resume) if resume is not None else {}
    if stored and options.get("dtype") == "auto":
        options = {key: value for key, value in options.items() if key != "dtype"}  # it stays what it was
    config = make_config(file, merge(stored.get("config", {}), options), assignments)
    if stored:
        refuse_changes(stored, config)
    check_names(config)
    check_device(config.device)
    task, splits, protocol = read_task(config)
    check_sources(config.reference)
    if dry_run:
        _print_plan(config, task, splits, protocol, as_json=as_json)
        return 0
    view = make_view()
    try:
        record = run(config, task, splits, protocol, view=view, stored=stored, began=began)
    finally:
        view.close()
    folder = Path(config.out) / record["run_id"]
    if as_json:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    else:
        print_summary(record, str(folder))
    return 0


def _print_plan(config: RunConfig, task: Task, splits: Splits, protocol: Protocol, *, as_json: bool) -> None:
    """Print what a run would do; a time budget goes by the measured rates, where the run itself times some prompts."""
    compute = choose_compute(config.dtype, config.device)
    if config.minutes is not None:
        speed, left = Speed.of(compute, config.model), 60 * config.minutes - START_UP_SECONDS
        config = fit(config, speed, task, splits, protocol, STARTS[config.adapter], left).config
        task, splits, protocol = read_task(config)
    print_plan(config, compute, task, splits, protocol, as_json=as_json)


def check_names(config: RunConfig) -> None:
    """Raise InputError where nobody is called what the policy or the describer is."""
    for kind, name, known in (("policy", config.policy, POLICIES), ("describer", config.describer, DESCRIBERS)):
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}; known: {', '.join(known)}")


def read_task(config: RunConfig) -> tuple[Task, Splits, Protocol]:
    """Return the task, its splits and the protocol; every mistake in the data is found here."""
    task = get_task(config.task)
    splits = split(task, support=config.support, reward=config.reward, test=config.test, seed=config.seed)
    return task, splits, protocol_of(config, task, splits)


def protocol_of(config: RunConfig, task: Task, splits: Splits) -> Protocol:
    """Return how answers are judged.

    Raises:
        InputError: choices are to be ranked and there are none.
    """
    choices = bool(splits.reward[0].choices)
    if config.protocol == "likelihood" and not choices:
        raise InputError(f"{task.name} has no choices to rank; use --set protocol=generate")
    automatic: Protocol = "likelihood" if choices else "generate"
    return automatic if config.protocol == "auto" else config.protocol


def read_stored(out: Path, run_id: str) -> dict[str, Any]:
    """Return the content of a run's ``config.json``."""
    path = find_run(out, run_id) / "config.json"
    try:
        stored = RunHeader.model_validate_json(path.read_bytes()).model_dump(mode="json")
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path}: missing or damaged; this run cannot be resumed") from None
    stored["config"] = {key: value for key, value in stored["config"].items() if value is not None}
    return stored


def refuse_changes(stored: dict[str, Any], config: RunConfig) -> None:
    """Raise InputError where a run would be resumed with another configuration or graph."""
    before, now = stored["fingerprint"], config.fingerprint()
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        key = changed[0]
        raise InputError(
            f"run {stored['run_id']} was started with {key}={before.get(key)!r}, now it is {now.get(key)!r}; "
            "resume without that option, or start a new run"
        )
    if stored["graph_sha256"] != _graph_sha256():
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
    where: Any = {"device": config.device, "dtype": config.dtype, "offline": config.offline}
    with told("loading the language model"):
        lm = load_language_model(profile, path=config.model_path, **where)
    if config.start_adapter is not None:
        lm.check_fit(load_adapter(Path(config.start_adapter), lm.sha256))
    policy = build_policy(config.policy, config.policy_settings, lm=lm, offline=config.offline)
    encoder = Encoder(assets.minilm_folder(), config.device)
    trained = find_trained(lm.sha256, task.name, config.variant, align=config.adapter == "aligned")
    nowhere, nothing = Path(), lambda *_, **__: None  # the run's folder and trace come once all of this is there
    loaded, states = (lm, encoder, policy, trained), KeptStates()
    clock = Clock(60 * config.minutes if config.minutes else None, began=began or time.monotonic())
    speed = Speed.of(lm.compute, config.model) if lm.compute else NO_TIME
    return Workbench(config, nowhere, task, splits, protocol, *loaded, states, nothing, view.progress, clock, speed)


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


def run(
    config: RunConfig,
    task: Task,
    splits: Splits,
    protocol: Protocol,
    *,
    view: View,
    stored: dict[str, Any],
    began: float | None = None,
) -> dict[str, Any]:
    """Run the graph to its end, from the start or from where a killed process left it.

    Args:
        config: the run's configuration.
        task: what to adapt to.
        splits: its questions.
        protocol: how answers are judged.
        view: what shows the progress.
        stored: the content of ``config.json`` of the run to resume, empty for a new one.
        began: when the command began, by ``time.monotonic``; a time budget counts from there.

    Returns:
        The object of ``run.json``.
    """
    check_device(config.device)
    asked = config.dtype
    config = config.model_copy(update={"dtype": choose_compute(asked, config.device).dtype})
    bench = build_workbench(config, task, splits, protocol, view, began)
    if stored:
        _refuse_other_weights(stored, bench)
        folder, header = find_run(Path(config.out), stored["run_id"]), stored
    else:
        bench = _fitted(bench, view)
        config = bench.config
        folder = new_run_folder(Path(config.out), task.name)
        header = {
            "run_id": folder.name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "config": config.model_dump(mode="json"),
            "dtype_asked": asked,
            "fingerprint": config.fingerprint(),
            "graph_sha256": _graph_sha256(),
            "model_sha256": bench.lm.sha256,
            "pretrained": _trained_hashes(bench),
        }
        write_json(folder / "config.json", header)
    with locked(folder):
        try:
            return drive(bench, folder, header, view)
        except KeyboardInterrupt:
            sys.stderr.write(f"\ninterrupted; go on with: {resume_command(folder.name, config.out)}\n")
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
        snapshot = _snapshot(graph, thread, folder)
        # ``next`` cannot tell: it is empty too where a kill fell between a node's writes and its checkpoint
        finished = "test" in snapshot.values
        if finished and (folder / "run.json").exists():
            return read_finished(folder)
        if snapshot.created_at and not finished:
            at = snapshot.next[0] if snapshot.next else "the step after the last one"
            recorder(at, "resume", {"at": at})
        if not finished:
            first: State = {"status": "running", "trials": [], "accepted": False}
            start = None if snapshot.created_at else first
            context: Context = {"workbench": bench}
            for _ in graph.stream(start, thread, context=context, durability="sync", stream_mode="updates"):
                pass
        total = time.monotonic() - started
        state: Any = graph.get_state(thread).values
    record = run_record(
        state,
        bench,
        header,
        overhead_share=max(0.0, total - recorder.busy_s) / total,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    write_json(folder / "run.json", record)
    write_report(folder)
    return record


def _snapshot(graph: Any, thread: Any, folder: Path) -> Any:
    """Return the run's last checkpoint."""
    with _refusing_damage(folder):
        snapshot = graph.get_state(thread)
        if snapshot.created_at and not isinstance(snapshot.values, dict):
            raise TypeError("no state in it")
        return snapshot


def _history(graph: Any, thread: Any, folder: Path) -> list[Any]:
    """Return the run's checkpoints, oldest first."""
    with _refusing_damage(folder):
        return list(graph.get_state_history(thread))[::-1]


@contextmanager
def _refusing_damage(folder: Path) -> Iterator[None]:
    """Turn what a changed checkpoint makes the library raise into one line; it runs no code on load."""
    try:
        yield
    except sqlite3.DatabaseError:
        raise  # the checkpointer words it
    except Exception as error:  # noqa: BLE001  (there is no common type)
        reason = type(error).__name__
        raise InputError(f"{folder / 'checkpoints.sqlite'}: damaged ({reason}); start a new run") from None


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
        node: the node to start with, at its first visit.
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
    task, splits, protocol = read_task(config)
    view = make_view()
    try:
        bench = build_workbench(config, task, splits, protocol, view)
        _refuse_other_weights(stored, bench)
        with checkpointer(source) as saver:
            graph = build_graph().compile(checkpointer=saver)
            history = _history(graph, {"configurable": {"thread_id": source.name}}, source)
        position = next((i for i, snapshot in enumerate(history) if snapshot.next == (node,)), None)
        if position is None:
            raise InputError(
                f"run {source.name} never came to {node!r}; {trace_command('show', out, source.name)} lists its nodes"
            )
        folder = new_run_folder(out, task.name)
        header = {
            **stored,
            "run_id": folder.name,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        header["replay_of"] = {"run_id": source.name, "node": node}
        write_json(folder / "config.json", header)
        carry_over(source, folder)
        with locked(folder):
            before = history[position - 1].next[0] if position else "__start__"
            with checkpointer(folder) as saver:
                fork = build_graph().compile(checkpointer=saver)
                fork.update_state(
                    {"configurable": {"thread_id": folder.name}}, history[position].values, as_node=before
                )
            record = drive(bench, folder, header, view)
    finally:
        view.close()
    if as_json:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    else:
        print_summary(record, str(folder))
    return 0

"""Starting a run again from one of its steps, as a run of its own, with another configuration where one is asked."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from agent import session
from agent.config import make_config
from agent.graph import build_graph
from agent.loop.kept import check, needed
from agent.loop.loading import OF_POLICY, build_workbench, refuse_other_weights, trained_hashes
from agent.loop.request import Request, RunHeader, read_stored, read_task, refuse_changes
from agent.loop.run_folder import carry_over, checkpointer, locked, new_run_folder, read_history, state_at
from agent.loop.state import Workbench
from agent.record.commands import trace_command
from agent.record.runs import find_run
from agent.record.terminal import make_view
from agent.replay.changes import FIRST, Fork
from agent.session import drive, now, refuse_other_graph, saying_how_to_go_on, show, thread_of
from cao.errors import InputError

MADE_AGAIN = {"evaluate": "apply"}
"""Where a replay begins in place of a node that reads what a finished run does not keep: the candidate's adapter."""


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
    config = make_config(None, {**stored.config, "out": str(out)}, [])
    refuse_changes(stored, config)
    task, splits, protocol = read_task(config)
    return _go_on(source, stored, Request(config, task, splits, protocol, stored), node, {}, as_json=as_json)


def fork(plan: Fork, *, as_json: bool = False) -> int:
    """Make a new run with an old one's configuration, changed.

    Steps that the change cannot touch are the old run's where its loop had begun; else the run begins anew.

    Args:
        plan: what ``plan_fork`` returned.
        as_json: print run.json's object instead of the summary.

    Returns:
        The exit status.

    Raises:
        InputError: the old run's steps cannot be read, or belong to other weights.
    """
    if plan.node == FIRST:
        return session.command(plan.asked, as_json=as_json)
    config, fingerprint = plan.asked.config, plan.asked.config.fingerprint()
    stored = plan.stored
    asked = stored.dtype_asked if config.dtype == stored.config.get("dtype") else config.dtype
    kept = stored.model_copy(
        update={"config": config.model_dump(mode="json"), "dtype_asked": asked, "fingerprint": fingerprint}
    )
    state: dict[str, JsonValue] = {"max_attempts": config.max_attempts, "until": config.until}
    return _go_on(plan.source, kept, plan.asked, plan.node, state, as_json=as_json)


def _go_on(
    source: Path, stored: RunHeader, asked: Request, node: str, changes: Mapping[str, JsonValue], *, as_json: bool
) -> int:
    """Go on from a node of an old run, in a run of its own, and show what comes of it."""
    refuse_other_graph(stored)
    view = make_view()
    try:
        bench = build_workbench(asked.config, asked.task, asked.splits, asked.protocol, view)
        if asked.forked:  # another policy is what a fork may be for
            parts = {name: sha256 for name, sha256 in stored.pretrained.items() if name not in OF_POLICY}
            parts |= {name: sha256 for name, sha256 in trained_hashes(bench).items() if name in OF_POLICY}
            stored = stored.model_copy(update={"pretrained": parts})
        refuse_other_weights(stored, bench)
        folder, header = _begin(bench, source, stored, node, changes)
        with locked(folder), saying_how_to_go_on(folder):
            record = drive(bench, folder, header, view)
    finally:
        view.close()
    show(record, folder, as_json=as_json)
    return 0


def _begin(
    bench: Workbench, source: Path, stored: RunHeader, node: str, changes: Mapping[str, JsonValue]
) -> tuple[Path, RunHeader]:
    """Make a run that stands where another one came to a node; return its folder and what its ``config.json`` holds.

    Args:
        bench: the workbench of the new run.
        source: the old run's folder.
        stored: what the new run's ``config.json`` holds but for its name.
        node: the node to go on from, at its first visit; the new run begins with the one that makes again what the
            node reads, where there is such a one.
        changes: keys of the state that the new run's configuration decides.
    """
    with checkpointer(source) as saver:
        graph = build_graph().compile(checkpointer=saver)
        history = read_history(graph, thread_of(source.name), source)
    position = next((i for i, snapshot in enumerate(history) if snapshot.next == (node,)), None)
    if position is not None and node in MADE_AGAIN:
        node = MADE_AGAIN[node]
        position = next(i for i in range(position, -1, -1) if history[i].next == (node,))
    if position is None:
        shown = trace_command("show", source.parent, source.name)
        raise InputError(f"run {source.name} never came to {node!r}; {shown} lists its nodes")
    state = state_at(history[position], source)
    answered = "best_items" in state
    check(source, state, bench.lm.sha256, items=answered)
    before = history[position - 1].next[0] if position else "__start__"
    with new_run_folder(source.parent, bench.task.name) as (name, place):
        forked = {"run_id": source.name, "node": node}
        header = stored.model_copy(update={"run_id": name, "created": now(), "replay_of": forked})
        carry_over(source, place, needed(state), items=answered)
        with checkpointer(place) as saver:
            graph = build_graph().compile(checkpointer=saver)
            graph.update_state(thread_of(name), {**history[position].values, **changes}, as_node=before)
        header.write(place)
    return source.parent / name, header

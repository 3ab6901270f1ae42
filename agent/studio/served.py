"""The graph as ``langgraph dev`` opens and runs it: the same nodes, between one that loads and one that concludes.

A run is asked for by ``{"task": "gsm8k"}`` and, as the graph's context, by any keys of a run's configuration. What a
checkpoint of the server holds is plain data, so the loaded models stay here, under the run's name; where a server was
started anew they are loaded anew. The run's folder is that of any other run, but for the checkpoints, which the server
keeps.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import JsonValue
from typing_extensions import TypedDict  # typing's own has no JSON schema before Python 3.12

from agent.config import RunConfig, make_config
from agent.graph import connect
from agent.loop.loading import build_workbench, fitted, refuse_other_weights
from agent.loop.nodes import Node, recorded
from agent.loop.request import RunHeader, check_remote, read_stored, read_task, refuse_changes, understand
from agent.loop.run_folder import Recorder, locked
from agent.loop.start import first_state
from agent.loop.state import State, Stored, Workbench, dump_state, load_state
from agent.record.runs import find_run
from agent.record.terminal import PlainView
from agent.record.wording import verdict
from agent.session import begin, completed, finish
from cao.command_line import quiet_libraries
from cao.configuration import merge
from cao.machine.compute import choose_compute
from cao.model.loading import check_device

MOST_STEPS = 400
"""What a graph of the most attempts takes."""


class Question(TypedDict, total=False):
    """What a run is asked for: a task's name, or a file of questions on the server's machine."""

    task: str


class RunContext(RunConfig):
    """A run's configuration; the task may come as the graph's input, too."""

    task: str = "gsm8k"


class Outcome(TypedDict, total=False):
    """What a run came to.

    Attributes:
        run_id: its name.
        status: ``improved`` or ``no_improvement``.
        verdict: in words.
        folder: of the run, on the server's machine.
        report: the report in it.
        record: what run.json holds.
    """

    run_id: str
    status: str
    verdict: str
    folder: str
    report: str
    record: dict[str, JsonValue]


class ServedState(State, total=False):
    """The graph's state, the run's name and folder, and at the end the outcome."""

    task: str
    run_id: str
    out: str
    verdict: str
    folder: str
    report: str
    record: dict[str, JsonValue]


@dataclass(frozen=True)
class Opened:
    """A run that this process has loaded.

    Attributes:
        bench: what its nodes work with.
        header: what its ``config.json`` holds.
        recorder: writes its trace.
        began: when it was opened, by ``time.monotonic``.
    """

    bench: Workbench
    header: RunHeader
    recorder: Recorder
    began: float


MOST_LOADED = 4
"""Runs of which models are kept: one that is never gone on with would keep its own for good."""
OPENED: dict[str, Opened] = {}
"""Run → what is loaded for it, until it has concluded."""


def make_graph() -> CompiledStateGraph[ServedState, RunContext, Question, Outcome]:
    """Return the compiled graph that ``langgraph.json`` names; its checkpointer is the server's."""
    graph = StateGraph(ServedState, context_schema=RunContext, input_schema=Question, output_schema=Outcome)
    ends: dict[str, Callable[..., Stored]] = {"load": load, "report": report}
    for name, node in ends.items():
        graph.add_node(name, node)
    connect(graph, _served, *ends)
    graph.add_edge(START, "load")
    graph.add_edge("report", END)
    return graph.compile().with_config(recursion_limit=MOST_STEPS)


def load(question: Question, runtime: Runtime[RunContext]) -> Stored:
    """Understand what is asked for, load it, and make the run's folder.

    Args:
        question: the graph's input.
        runtime: its context is the configuration; what was not set is the default.

    Raises:
        InputError: something of it cannot be used.
        UnavailableError: a model, a data set or a key is not at hand.
    """
    given = runtime.context.model_dump(exclude_unset=True) if runtime.context else {}
    named = {"task": question["task"]} if question.get("task") else {}
    options = merge(merge({"task": RunContext().task}, given), named)
    quiet_libraries(offline=bool(options.get("offline")))
    asked = understand(options, assignments=[])
    check_remote(asked.config)
    check_device(asked.config.device)
    dtype = asked.config.dtype
    config = asked.config.model_copy(update={"dtype": choose_compute(dtype, asked.config.device).dtype})
    view = PlainView()
    for line in asked.told:
        view.say(line)
    bench = fitted(build_workbench(config, asked.task, asked.splits, asked.protocol, view), view)
    folder, header = begin(asked, bench, dtype)
    opened = _opened(bench, folder, header)
    return {"run_id": folder.name, "out": str(folder.parent.absolute()), **dump_state(first_state(opened.bench))}


def report(stored: Stored) -> Stored:
    """Write run.json and the report, and let go of what was loaded."""
    opened = _of(stored)
    bench, folder, state = opened.bench, opened.bench.folder, load_state(stored)
    with locked(folder):
        total = time.monotonic() - opened.began
        record = finish(state, bench, opened.header, total_s=total, busy_s=opened.recorder.busy_s)
        completed(folder, record, [state])
    OPENED.pop(folder.name, None)
    return {
        "verdict": verdict(record),
        "folder": str(folder),
        "report": str(folder / "report.html"),
        "record": record.model_dump(mode="json"),
    }


def _served(name: str, node: Node) -> Callable[[Stored], Stored]:
    """Return a node as the server calls it."""

    def run(stored: Stored) -> Stored:
        opened = _of(stored)
        with locked(opened.bench.folder):
            return recorded(name, node, stored, opened.bench)

    return run


def _of(stored: Stored) -> Opened:
    """Return what is loaded for a run, loaded anew where another process began it.

    Raises:
        InputError: the run's folder is gone, or its data or weights are not what it began with.
    """
    run_id, out = str(stored["run_id"]), Path(str(stored["out"]))
    opened = OPENED.get(run_id)
    if opened is not None:
        return keep(run_id, opened)
    folder, header = find_run(out, run_id), read_stored(out, run_id)
    config = make_config(None, {**header.config, "out": str(out)}, [])
    refuse_changes(header, config)
    sys.stderr.write(f"loading run {run_id} again\n")
    bench = build_workbench(config, *read_task(config), PlainView())
    refuse_other_weights(header, bench)
    return _opened(bench, folder, header)


def _opened(bench: Workbench, folder: Path, header: RunHeader) -> Opened:
    recorder = Recorder(folder.absolute(), PlainView())
    clock = replace(bench.clock, spent=recorder.spent_s)
    bench = replace(bench, folder=folder.absolute(), record=recorder, clock=clock)
    return keep(folder.name, Opened(bench, header, recorder, time.monotonic()))


def keep(run_id: str, opened: Opened) -> Opened:
    """Keep what is loaded for a run in the place of that of the run that has waited longest, where there are many.

    Where that run goes on, it is loaded again; its trace is closed once no node holds it.
    """
    OPENED.pop(run_id, None)
    while len(OPENED) >= MOST_LOADED:
        OPENED.pop(next(iter(OPENED)))
    OPENED[run_id] = opened
    return opened

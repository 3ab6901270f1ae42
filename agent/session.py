"""One run from beginning to end: check everything, load once, drive the graph, write the outcome, resume."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import cast

from langchain_core.runnables import RunnableConfig

from agent.graph import build_graph, mermaid
from agent.loop.conclude import run_record
from agent.loop.kept import check, prune, summed
from agent.loop.loading import build_workbench, fitted, refuse_other_weights, trained_hashes
from agent.loop.request import Request, RunHeader
from agent.loop.run_folder import (
    Recorder,
    at_work_elsewhere,
    checkpointer,
    locked,
    new_run_folder,
    read_history,
    read_state,
    state_at,
)
from agent.loop.start import first_state
from agent.loop.state import Context, State, Workbench, dump_state
from agent.record.commands import resume_command, trace_command
from agent.record.page.report import write_report
from agent.record.reading import at_work, read_record
from agent.record.runs import find_run
from agent.record.schema import RunRecord
from agent.record.terminal import View, make_view, print_summary
from cao.encodings import visible
from cao.errors import InputError, UnavailableError
from cao.files import SUMS, sha256_bytes, write_json, write_sums
from cao.machine.compute import choose_compute
from cao.model.loading import check_device
from cao.types import DtypeChoice

STEPS_ONCE, STEPS_PER_ATTEMPT = 10, 3
"""Graph steps outside and inside the loop: LangGraph's recursion limit follows from them."""


def command(asked: Request, *, as_json: bool, began: float | None = None) -> int:
    """Do what ``python -m agent.run`` was asked for and return the exit status."""
    if asked.stored:
        refuse_other_graph(asked.stored)
    view = make_view()
    for line in asked.told:
        view.say(visible(line))
    try:
        with redirect_stdout(sys.stderr):  # a user's grader may print, and standard output is the outcome's alone
            record = run(asked, view=view, began=began)
    finally:
        view.close()
    show(record, Path(asked.config.out) / record.run_id, as_json=as_json)
    return 0


def show(record: RunRecord, folder: Path, *, as_json: bool) -> None:
    """Print the outcome, as one JSON object or for people."""
    if as_json:
        sys.stdout.write(json.dumps(record.model_dump(mode="json")) + "\n")
    else:
        print_summary(record, str(folder))


def refuse_other_graph(stored: RunHeader) -> None:
    """Raise InputError where a run would be resumed with another version of the graph."""
    if stored.graph_sha256 != _graph_sha256():
        raise InputError(f"run {stored.run_id} was started by another version of the graph; start a new run")


def _graph_sha256() -> str:
    return sha256_bytes(mermaid().encode())


def run(request: Request, *, view: View, began: float | None = None) -> RunRecord:
    """Run the graph to its end, from the start or from where a killed process left it.

    Args:
        request: what is asked for.
        view: what shows the progress.
        began: when the command began, by ``time.monotonic``; a time budget counts from there.

    Returns:
        What ``run.json`` says.
    """
    record, _ = run_and_keep(request, view=view, began=began)
    return record


def run_and_keep(request: Request, *, view: View, began: float | None = None) -> tuple[RunRecord, Workbench]:
    """Run the graph as ``run`` does; return what ``run.json`` says, and what was loaded for it."""
    config, stored = request.config, request.stored
    check_device(config.device)
    folder = find_run(Path(config.out), stored.run_id) if stored else None
    if folder and at_work(folder):  # known before anything is loaded
        raise InputError(at_work_elsewhere(folder))
    asked = config.dtype
    config = config.model_copy(update={"dtype": choose_compute(asked, config.device).dtype})
    bench = build_workbench(config, request.task, request.splits, request.protocol, view, began)
    if stored and folder:
        refuse_other_weights(stored, bench)
        header = stored
    else:
        bench = fitted(bench, view)
        folder, header = begin(request, bench, asked)
    with locked(folder, alone=True), saying_how_to_go_on(folder):
        return drive(bench, folder, header, view), bench


def begin(request: Request, bench: Workbench, dtype_asked: DtypeChoice) -> tuple[Path, RunHeader]:
    """Make the folder of a new run; return it, and what its ``config.json`` holds.

    Args:
        request: what is asked for.
        bench: what is loaded, and the configuration that fits.
        dtype_asked: the dtype that was asked for.
    """
    config = bench.config
    with new_run_folder(Path(config.out), request.task.name) as (name, place):
        header = RunHeader(
            run_id=name,
            created=now(),
            config=config.model_dump(mode="json"),
            dtype_asked=dtype_asked,
            fingerprint=config.fingerprint(),
            graph_sha256=_graph_sha256(),
            model_sha256=bench.lm.sha256,
            pretrained=trained_hashes(bench),
            **({"replay_of": request.forked} if request.forked else {}),
        )
        header.write(place)
    return Path(config.out) / name, header


def now() -> str:
    """Return the time as records have it, ISO-8601 UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@contextmanager
def saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Say how a run is resumed that was interrupted, or that lacked something on its way."""
    try:
        yield
    except (KeyboardInterrupt, UnavailableError) as error:
        what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped"
        sys.stderr.write(f"\n{what}; go on with: {resume_command(folder.name, folder.parent)}\n")
        raise


def drive(bench: Workbench, folder: Path, header: RunHeader, view: View) -> RunRecord:
    """Stream the graph over the run's checkpoints and write ``run.json`` and the report."""
    recorder = Recorder(folder, view)
    clock = replace(bench.clock, spent=recorder.spent_s)
    bench = replace(bench, folder=folder, record=recorder, clock=clock)
    steps = STEPS_ONCE + STEPS_PER_ATTEMPT * bench.config.max_attempts
    thread: RunnableConfig = {**thread_of(header.run_id), "recursion_limit": steps}
    with checkpointer(folder) as saver:
        graph = build_graph().compile(checkpointer=saver)
        started = time.monotonic()
        snapshot = read_state(graph, thread, folder)
        # ``next`` cannot tell: it is empty too where a kill fell between a node's writes and its checkpoint
        reached = state_at(snapshot, folder)
        finished = "test" in reached
        if finished and (folder / "run.json").exists():
            view.say(f"{folder.name} had ended already; nothing of it is computed again")
            states = [state_at(snapshot, folder) for snapshot in read_history(graph, thread, folder)]
            return completed(folder, read_record(folder), states)
        if not snapshot.created_at and (folder / "run.json").exists():
            raise InputError(
                f"run {folder.name} is finished and its checkpoints were pruned: nothing is left to resume; see it "
                f"with: {trace_command('show', folder.parent, folder.name)}"
            )
        if snapshot.created_at and not finished:
            check(folder, reached, bench.lm.sha256)
            at = snapshot.next[0] if snapshot.next else "the step after the last one"
            recorder(at, "resume", {"at": at})
        if not finished:
            start = (
                None if snapshot.created_at else cast(State, dump_state(first_state(bench)))
            )  # as checkpoints hold it
            context: Context = {"workbench": bench}
            for _ in graph.stream(start, thread, context=context, durability="sync", stream_mode="updates"):
                pass
        total = time.monotonic() - started
        state = state_at(graph.get_state(thread), folder)
        history = read_history(graph, thread, folder)
    record = finish(state, bench, header, total_s=total, busy_s=recorder.busy_s)
    return completed(folder, record, [state_at(snapshot, folder) for snapshot in history])


def finish(state: State, bench: Workbench, header: RunHeader, *, total_s: float, busy_s: float) -> RunRecord:
    """Write ``run.json``, and remove the report of an outcome before this one.

    Args:
        state: the graph's last state.
        bench: the workbench, with the run's folder.
        header: what ``config.json`` holds.
        total_s: time that the graph took in this process, s.
        busy_s: of that, in its nodes, s; 0 where none ran in it.
    """
    record = run_record(
        state,
        bench,
        header,
        overhead_share=max(0.0, total_s - busy_s) / total_s if busy_s > 0 else None,
        peak_memory_mb=peak_memory_mb(),
    )
    for name in ("report.html", SUMS):  # of an outcome before this one: a kill must not leave its hashes beside this
        (bench.folder / name).unlink(missing_ok=True)
    write_json(bench.folder / "run.json", record.model_dump(mode="json"))
    return record


def peak_memory_mb() -> float:
    """Return the most memory that this process held so far, MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024**2 if sys.platform == "darwin" else 1024)  # bytes there, kB elsewhere


def thread_of(run_id: str) -> RunnableConfig:
    """Return under which name LangGraph keeps a run's checkpoints."""
    return {"configurable": {"thread_id": run_id}}


def completed(folder: Path, record: RunRecord, states: list[State]) -> RunRecord:
    """Return the outcome once nothing is left to do: a kill may have come before the report, pruning or hashes."""
    if not (folder / "report.html").exists():
        write_report(folder)
    prune(folder, states)
    if not (folder / SUMS).exists():
        write_sums(folder, summed(folder))
    return record

"""Drift, adaptation, swap and rollback of a server: one thread makes runs; changes are written before they act."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from agent.record.reading import read_record
from agent.record.schema import RunRecord
from agent.server.adaptation.events import Events
from agent.server.adaptation.evidence import Evidence
from agent.server.adaptation.labels import Label, Labels, label_of
from agent.server.adaptation.questions import LEAST_LABELLED, material, of_one_kind, window_rows
from agent.server.adaptation.runs import Runs, StoppedError
from agent.server.adaptation.state import Adoption, ServerState, held, read_server_state
from agent.server.adaptation.watching import Watching
from agent.server.errors import ApiError
from agent.server.memory import Memory
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served
from agent.server.settings import ServeOptions
from agent.server.wire import Feedback
from agent.stream.state import Adapted, Event
from agent.stream.wording import words
from cao.errors import CaoError
from tools.detect_drift.reference import check_sources

Open = Callable[[str, Path, RunRecord], Served]
"""Opens what a run adopted for a task, as it is served; raises a CaoError where it cannot be served."""
Close = Callable[[Served], None]
"""Is told what is served no more."""


@dataclass
class Adaptation:
    """What a server does about drift.

    Attributes:
        options: of the server.
        runs: makes the runs.
        roster: what is served; swaps are made in it.
        metrics: count what happens.
        open: opens what a run adopted.
        close: is told what was taken back.
    """

    options: ServeOptions
    runs: Runs
    roster: Roster
    metrics: Metrics
    open: Open
    close: Close
    watching: Watching = field(init=False)
    memory: Memory = field(default_factory=Memory, init=False)
    _state: ServerState = field(init=False, repr=False)
    _labels: Labels = field(init=False, repr=False)
    _events: Events = field(init=False, repr=False)
    _wanted: list[str] = field(default_factory=list, init=False, repr=False)
    _changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.RLock()), init=False)
    _thread: threading.Thread = field(init=False, repr=False)
    _grader: str = field(default="auto", init=False, repr=False)
    _ranked: dict[str, bool] = field(default_factory=dict, init=False, repr=False)
    _held: ExitStack = field(default_factory=ExitStack, init=False, repr=False)
    _stopping: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        adapt = self._new_task if self.options.adapt else None
        self.watching = Watching(self.options, self.metrics, adapt, self._event)
        self._thread = threading.Thread(target=self._run, name="adapt", daemon=True)

    def start(self) -> None:
        """Serve what an earlier process adopted, go on with what it was making, and begin to watch.

        Raises:
            InputError: the folder is another's, or damaged; a reference or the configuration cannot be used.
        """
        options = self.options
        check_sources(options.reference, options.registry)
        if options.adapt:
            self._grader = self.runs.check()
        self._held.enter_context(held(options.out))
        self._state = read_server_state(options.out)
        self._labels = Labels(options.out / "feedback.jsonl")
        self._events = Events(options.out, self.metrics, self.roster.base.name)
        self.roster.expect(self.watching.current())
        for task, adoption in self._state.adopted.items():
            if adoption.status == "served":
                self._open_again(task, adoption)
            else:
                self._events.once("rolled_back", task, adoption.words)
        self._swapped("so an earlier process left it")
        found = self.watching.windows() if options.adapt else []
        self._wanted = [path.stem for path in found if self._to_be_made(path.stem)]
        self.metrics.now_current(self.roster.current.name)
        self._thread.start()
        self.watching.start()

    def stop(self) -> None:
        """End; a run under way is interrupted, and gone on with by the next process."""
        self.watching.stop()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.runs.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._held.close()

    def feedback(self, given: Feedback) -> dict[str, JsonValue]:
        """Take feedback on an answer; return what became of it.

        Raises:
            ApiError: no such answer is remembered, or what is named as the right one is none of its choices, or blank.
            InputError: the runs' grader cannot judge by it.
        """
        asked = self.memory.get(given.id)
        if asked is None:
            words = "no answer with this id is remembered; it was long ago, before a restart, or to a long question"
            raise ApiError(404, words, None, "id")
        known = self._labels.written(asked.tasks) if self._grader == "label" else ()
        label = label_of(given, asked, self._grader, known)
        with self._changed:
            first = self._labels.add(label)
            self.metrics.feedback.labels({True: "right", False: "wrong", None: "unknown"}[label.correct]).inc()
            effect = "kept"
            if first and label.correct is not None and self._judge(label, correct=label.correct):
                effect = "rolled_back"
            for task in self._tasks_of(label.id, label.tasks):
                if self.options.adapt and task not in self._wanted and self._worth_a_run(task):
                    self._want(task)
                    effect = "adapting" if effect == "kept" else effect
        return {"object": "feedback", "id": label.id, "correct": label.correct, "effect": effect}

    def health(self) -> dict[str, JsonValue]:
        """Return how the watch and the adaptation are."""
        with self._changed:
            adopted: dict[str, JsonValue] = {task: one.told() for task, one in self._state.adopted.items()}
            making: list[JsonValue] = [*self._wanted]
        return {"watch": self.watching.ended or "ok", "adapting": making, "adopted": adopted}

    @property
    def wrong(self) -> str:
        """What has ended that should be at work, empty where nothing has."""
        if self.watching.ended:
            return f"nothing is watched any more: {self.watching.ended}"
        return "" if self._thread.is_alive() else "nothing is adapted to any more"

    def _event(self, event: Event) -> None:
        """Take what the watch came to, in the watch's thread."""
        kind = event["event"]
        sys.stderr.write(f"{words(event, self.options.out)}\n")
        if kind in ("alarm", "new_task"):
            self.metrics.events.labels(kind).inc()
        if kind in ("start", "expect"):
            with self._changed:
                self.roster.expect(event["expected"] if kind == "start" else event["tasks"])
                self._swapped("the prompts changed")

    def _new_task(self, task: str, path: Path) -> Adapted:
        with self._changed:
            if task in self._state.tried and not self._worth_a_run(task):
                return {"run": None, "told": "a run for it was made, and too few answers came since for another one"}
            self._want(task)
        return {"run": None, "told": "it is adapted to beside the server, whose events.jsonl says what came of it"}

    def _want(self, task: str) -> None:
        if task not in self._wanted:
            self._wanted.append(task)
            self._changed.notify()

    def _to_be_made(self, task: str) -> bool:
        """Return whether an earlier process ended before a run for a task did."""
        return task not in self._state.tried or bool(self.runs.pending(task, self._state.judged.get(task, ())))

    def _tasks_of(self, key: str, tasks: tuple[str, ...]) -> list[str]:
        """Return the new tasks that a response belongs to."""
        named = [task for task in tasks if len(tasks) == 1 and self.watching.window(task).exists()]
        return named or [path.stem for path in self.watching.windows() if key in window_rows(path)]

    def _worth_a_run(self, task: str) -> bool:
        """Return whether there are answers enough for a run that may accept something: twice those of the last one."""
        adoption = self._state.adopted.get(task)
        if adoption is not None and adoption.status == "served":
            return False
        known = of_one_kind(self._labels.of(task, window_rows(self.watching.window(task))))
        return len(known) >= max(LEAST_LABELLED, 2 * self._state.tried.get(task, 0))

    def _run(self) -> None:
        """Make the runs that are wanted, one after the other."""
        while True:
            with self._changed:
                while not (self._wanted or self._stopping):
                    self._changed.wait()
                if self._stopping:
                    return
                task = self._wanted[0]
            again = False
            try:
                self._adapt(task)
                again = True  # answers may have come that the run did not see
            except StoppedError:
                return
            except Exception as error:  # noqa: BLE001  (serving goes on, and events.jsonl says what was wrong)
                self._events.failed(task, error)
            with self._changed:
                self._wanted.remove(task)
                if again and self._worth_a_run(task):
                    self._want(task)

    def _adapt(self, task: str) -> None:
        """Make one run on what is at hand for a task, and serve what it adopts."""
        rows = window_rows(self.watching.window(task))
        given = material(self.options.out / "tasks", task, self._labels.of(task, rows), rows.values())
        judged, aside = self._state.judged.get(task, ()), partial(self._put_aside, task)
        try:
            record = self.runs.make(task, given, judged, aside)
            model = self.open(task, self.runs.folder(task, record), record) if record.status == "improved" else None
        except Exception:
            if not self._stopping:
                with self._changed:
                    self._judged(task, given.known)
            raise
        with self._changed:
            known = given.known_to(record.data)
            if model is not None:
                self._adopt(task, record, model, known)
            else:
                lack = "" if known >= LEAST_LABELLED else f"; {known} of at least {LEAST_LABELLED} answers are known"
                self._events.once("not_adapted", task, f"run {record.run_id}: nothing was accepted{lack}")
                self._judged(task, known)

    def _put_aside(self, task: str, run: str) -> None:
        """Write down that a run cannot be gone on with."""
        with self._changed:
            self._state.settle(task, [run])
            self._state.write(self.options.out)
            self._events.add("not_adapted", task, f"run {run}: cannot be gone on with; a new one is made")

    def _adopt(self, task: str, record: RunRecord, model: Served, known: int) -> None:
        """Serve what a run adopted. First it is said and written: what is served must be served again after a kill."""
        level = record.test.baseline.accuracy if record.test else 0.0
        run = str(self.runs.folder(task, record).relative_to(self.options.out.absolute()))
        self._events.once("adopted", task, f"run {record.run_id}")
        self._state.adopted[task] = Adoption(run=run, run_id=record.run_id, evidence=Evidence(level=level))
        self._judged(task, known)
        before = self.roster.by_drift.get(task)
        self._serve(task, record, model)
        if before is not None and before.there != model.there:
            self.close(before)
        self._swapped(f"run {record.run_id} was accepted")

    def _judged(self, task: str, known: int) -> None:
        """Write down that the task's runs were dealt with, in one step with what was adopted: a kill parts neither."""
        self._state.settle(task, self.runs.ended(task))
        self._state.tried[task] = known
        self._state.write(self.options.out)

    def _serve(self, task: str, record: RunRecord, model: Served) -> None:
        """Serve a model; know whether its questions had choices, unless the run made them of the written answers."""
        choices = record.data is not None and "choices" in record.data.keys
        if choices or record.protocol == "generate":
            self._ranked[task] = choices
        self.roster.adopt(task, model)

    def _judge(self, label: Label, *, correct: bool) -> bool:
        """Take an answer to a question of the kind that the run measured; return whether the model was taken back."""
        name, adoption = label.model, self._state.adopted.get(label.model)
        if adoption is None or adoption.run_id != label.run or self._ranked.get(name) != bool(label.choices):
            return False
        evidence = adoption.evidence.told(correct=correct)
        status = "rolled_back" if evidence.worse else "served"
        self._state.adopted[name] = adoption.model_copy(update={"evidence": evidence, "status": status})
        self._state.write(self.options.out)
        if not evidence.worse:
            return False
        model = self.roster.by_drift[name]
        self.roster.dismiss(name)
        self._ranked.pop(name)
        self._events.once("rolled_back", name, self._state.adopted[name].words)
        self._swapped("feedback spoke against it")
        self.close(model)
        return True

    def _open_again(self, task: str, adoption: Adoption) -> None:
        """Serve what an earlier process adopted; what cannot be opened is said, and the base model is served."""
        try:
            folder = adoption.folder(self.options.out)
            record = read_record(folder)
            self._serve(task, record, self.open(task, folder, record))
        except CaoError as error:
            self._events.add("not_opened", task, str(error))

    def _swapped(self, why: str) -> None:
        self._events.swapped(self.roster.current.name, why)

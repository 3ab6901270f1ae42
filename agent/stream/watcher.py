"""A watched stream: detect, collect a window after an alarm, name it, and go on with what is known then.

What the watcher knows lies in ``state.json`` and is written in one step after each batch of lines; events that were
written after it are cut off on resume and come again, for everything here depends on the lines and the seed alone.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor
from typing_extensions import Unpack

from agent.stream.source import FileSource, PipeSource, next_lines, prompt_of
from agent.stream.state import Adapted, Deployed, Event, EventData, WatchState
from cao.drift import DriftReport
from cao.errors import InputError
from cao.files import append_line, canonical_json, sealed, sha256_bytes, write_atomic, write_json
from cao.model.encoder import Encoder
from cao.tasks.prompt_file import asked_from, value_of
from cao.tasks.prompt_text import distinct, seen
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.order import ORDERS, reach
from tools.detect_drift.reference import REFERENCE_PROMPTS
from tools.detect_drift.reference_file import read_reference, write_reference
from tools.detect_drift.sequential import Strangeness, StreamDetector
from tools.detect_drift.verdict import nearest_of
from tools.detect_drift.window import MIN_PROMPTS

REMEMBERED = 10_000
"""Prompts that a repeat is recognised among; older ones count as new again."""

TOGETHER = 64
"""Lines that are encoded together; the state is written after them."""

MIXTURE_PART = 0.05
"""Share from which a known task counts as part of a mixture."""

Adapt = Callable[[str, Path], Adapted]
"""Runs the adaptation graph on a window's file, for a task name."""


@dataclass
class Watcher:
    """One watched stream.

    Attributes:
        folder: of the state, the events and the new references; nothing is written outside it.
        source: where lines come from.
        encoder: the frozen encoder.
        known: the known tasks; grows with the stream.
        state: where it stands.
        tell: shows an event.
        adapt: runs the graph on a window, None without adaptation.
    """

    folder: Path
    source: FileSource | PipeSource
    encoder: Encoder
    known: KnownTasks
    state: WatchState
    tell: Callable[[Event], None]
    adapt: Adapt | None = None
    _recent: dict[str, None] = field(default_factory=dict, init=False, repr=False)
    _detector: StreamDetector = field(init=False, repr=False)
    _strangeness: Strangeness = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.state.learnt:
            reference = read_reference(self._reference_path(name), self.encoder.sha256)
            self.known = replace(self.known, references={**self.known.references, name: reference})
        events = self.folder / "events.jsonl"
        if events.is_symlink():
            raise InputError(f"{events}: is a link, and what is written here stays in the folder; remove it")
        events.touch()
        if events.stat().st_size < self.state.events_bytes:
            raise InputError(f"{events}: is shorter than what was written to it; start a new --out")
        os.truncate(events, self.state.events_bytes)
        self._recent = dict.fromkeys(self.state.recent)
        self._expect(self.state.current)
        self.state.offset = self.source.resume(self.state.offset, self.state.file)
        self._release()

    def run(self) -> WatchState:
        """Watch until the stream ends; return the last state."""
        if not self.state.seq:
            self.log("start", expected=self.state.current, known=list(self.known.names))
            self._commit()
        read = self.state.prompts + self.state.skipped
        if len(self.state.window) == self.state.settings["window"]:  # a kill fell between the window and its verdict
            self._name_window()
            self._commit()
        while (lines := next_lines(self.source, self.state.offset)) or self._turn():
            for start in range(0, len(lines), TOGETHER):
                self._batch(lines[start : start + TOGETHER])
                self._commit()
            self._release()
        if self.state.alarm is not None:
            self._name_window()
        state = self.state
        if state.ended and state.prompts + state.skipped == read:
            return state  # nothing came since
        state.ended = True
        skipped, unreadable = state.skipped, state.unreadable
        self.log("end", prompts=state.prompts, skipped=skipped, unreadable=unreadable, alarms=state.alarms)
        self._commit()
        return state

    def _turn(self) -> bool:
        """Go on in the file that took the place of the one that ended; return whether there is one."""
        offset = self.source.turn()
        if offset is None:
            return False
        self.state.offset = offset
        self._commit()
        return True

    def _release(self) -> None:
        """Let the source forget what was dealt with; only after that is committed may it take more."""
        offset = self.source.release(self.state.offset)
        if offset != self.state.offset:
            self.state.offset = offset
            self._commit()

    def _batch(self, lines: Sequence[tuple[bytes, int]]) -> None:
        """Encode some lines together, and deal with them one by one."""
        prompts = [(*prompt_of(line), end) for line, end in lines]
        embeddings = self.encoder.embed([prompt for prompt, _, _ in prompts if prompt is not None])
        scores: list[list[float]] = []
        judge, row = None, -1
        for (raw, _), (prompt, reason, end) in zip(lines, prompts, strict=True):
            self.state.offset = end
            if prompt is None:
                self.state.skipped += 1
                if reason:
                    self._unreadable(reason)
                continue
            row += 1
            if judge is not self._strangeness:  # at first, and whenever other tasks are expected
                judge = self._strangeness
                scores = [[]] * row + judge(embeddings[row:]).tolist()
            if self._is_repeat(prompt):
                self.state.skipped += 1
            else:
                self._one(raw.decode(), scores[row])

    def _unreadable(self, reason: str) -> None:
        """Count a line that could not be read; show the first for each reason, and then every thousandth."""
        count = self.state.unreadable[reason] = self.state.unreadable.get(reason, 0) + 1
        if count % 1000 == 1:
            self.log("skipped", line=self.state.prompts + self.state.skipped, reason=reason, count=count)

    def _one(self, line: str, scores: Sequence[float]) -> None:
        """Deal with one new prompt."""
        state = self.state
        state.prompts += 1
        if state.alarm is None:
            if state.prompts % state.every == 0 and self._detector.update(scores):
                first = state.prompts - state.every * (self._detector.seen - 1 - self._detector.since)
                state.alarm, state.alarms = state.prompts, state.alarms + 1
                self.log("alarm", prompt=state.prompts, since=first, statistic=round(self._detector.statistic, 1))
            return
        state.window.append(line)
        if len(state.window) == state.settings["window"]:
            self._commit()  # an adaptation takes minutes; a kill in it must find the window whole
            self._name_window()
            self._commit()

    def _name_window(self) -> None:
        """Name the window behind an alarm, and go on with what it shows to be current."""
        state = self.state
        asked = [asked_from(value_of(line, "the line"), "the line") for line in state.window]
        outcomes = [one.correct for one in asked]
        report = detect_drift(
            [one.prompt for one in asked],
            None,
            replace(self.known, current=tuple(state.current)),
            encoder=self.encoder,
            correct=outcomes if any(outcome is not None for outcome in outcomes) else None,
            seed=state.settings["seed"] + state.alarms,
        )
        self.log("window", alarm=state.alarm, report=report.model_dump(mode="json"))
        before = list(state.current)
        if report.kind == "domain_transfer":
            name = self._learn([one.prompt for one in asked])
            state.current = [name]
            self.log("new_task", task=name, prompts=report.n)
        elif report.kind == "covariate":
            state.current = _explaining(report)
        else:
            self.log("no_change", kind=report.kind)
        if state.current != before:
            self.log("expect", tasks=state.current)
            self._deploy()
        self._thin([one.prompt for one in asked])
        state.window, state.alarm, state.detector = [], None, None
        self._expect(state.current)

    def _learn(self, prompts: Sequence[str]) -> str:
        """Make a window the reference of a new task, and return its name."""
        name = f"drift-{len(self.state.learnt) + 1}"
        made = Reference(self._in_order(prompts)[:REFERENCE_PROMPTS], in_order=True)
        write_reference(self._reference_path(name), made, self.encoder.sha256, f"alarm {self.state.alarms}", ())
        self.state.learnt.append(name)
        reference = read_reference(self._reference_path(name), self.encoder.sha256)
        self.known = replace(self.known, references={**self.known.references, name: reference})
        return name

    def _thin(self, prompts: Sequence[str]) -> None:
        """Judge only prompts so far apart that they resemble each other no more than any two of the window."""
        rows = self._in_order(prompts)
        every = reach(rows, ORDERS, self.state.settings["seed"])
        if every != self.state.every:
            self.state.every = every
            self.log("thinned", every=every, holds=every == 1 or every < len(rows) // MIN_PROMPTS)

    def _in_order(self, prompts: Sequence[str]) -> Tensor:
        """Return the embeddings of the distinct prompts, in the order in which they came."""
        return self.encoder.embed([prompts[i] for i in sorted(distinct(prompts))])

    def _deploy(self) -> None:
        """Swap in what is stored for the current task, or adapt to a new one; say which.

        ``deployed.json`` names the run; ``adapter`` in it is the adapter's folder, null where the run adopted several
        adapters or none: its strategy.json says how they answer together.
        """
        state = self.state
        task = state.current[0]
        if len(state.current) == 1 and task in state.runs:
            self.log("adapter", task=task, **self._adopted(task), stored=True)
        elif len(state.current) == 1 and self.adapt is not None and task not in self.state.settings["reference"]:
            path = self.folder / "windows" / f"{task}.jsonl"
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, "".join(f"{line}\n" for line in state.window))
            made = self.adapt(task, path)
            if made["run"] is not None:
                state.runs[task] = made["run"]
                self.log("adapter", task=task, **self._adopted(task), stored=False, told=made["told"])
            else:
                self.log("not_adapted", task=task, reason=made["told"])
        deployed = self._adopted(task if len(state.current) == 1 else "")
        write_json(self.folder / "deployed.json", {"tasks": state.current, **deployed})

    def _adopted(self, task: str) -> Deployed:
        run = self.state.runs.get(task)
        adapter = f"{run}/adapter" if run is not None else None
        return {"run": run, "adapter": adapter if adapter is not None and (self.folder / adapter).exists() else None}

    def _expect(self, current: Sequence[str]) -> None:
        """Start, or take up, the running test for the current tasks."""
        known = replace(self.known, current=tuple(current))
        self._strangeness = Strangeness(known)
        if self.state.detector is None:
            seed = self.state.settings["seed"] * 1_000 + self.state.alarms
            self._detector = StreamDetector(self._strangeness.usual(), self.state.settings["threshold"], seed)
        else:
            self._detector = StreamDetector(**self.state.detector)

    def _is_repeat(self, prompt: str) -> bool:
        """Return whether a prompt came lately, and remember it."""
        key = sha256_bytes(seen(prompt).encode())[:16]
        if key in self._recent:
            return True
        self._recent[key] = None
        if len(self._recent) > REMEMBERED:
            del self._recent[next(iter(self._recent))]
        return False

    def _reference_path(self, name: str) -> Path:
        path = self.folder / "references"
        path.mkdir(exist_ok=True)
        return path / f"{name}.safetensors"

    def log(self, event: str, **data: Unpack[EventData]) -> None:
        """Append an event to ``events.jsonl``, flushed to the disk, and show it."""
        line: Event = {"seq": self.state.seq, "event": event, **data}
        append_line(self.folder / "events.jsonl", json.dumps(line, ensure_ascii=False, allow_nan=False))
        self.state.seq += 1
        self.tell(line)

    def _commit(self) -> None:
        """Write the state: from here on nothing before it happens again."""
        self.state.events_bytes = (self.folder / "events.jsonl").stat().st_size
        self.state.file = self.source.mark(self.state.offset)
        self.state.detector = self._detector.state()
        self.state.recent = list(self._recent)
        write_atomic(self.folder / "state.json", canonical_json(sealed(self.state.model_dump(mode="json"))))


def _explaining(report: DriftReport) -> list[str]:
    """Return the known tasks that explain a window: the nearest one, or the parts of a mixture."""
    if report.not_rejected:
        return [nearest_of(report.known, report.not_rejected)]
    return sorted(name for name, share in report.shares.items() if share >= MIXTURE_PART) or list(report.current)

"""The arms: who answers which prompt of the stream."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.handover.opening import deployed_or_adopted
from agent.record.reading import read_run
from agent.record.schema import RunRecord
from agent.record.terminal import make_view
from agent.stream.adapting import adapting
from agent.stream.command import watched
from agent.stream.options import WatchOptions
from agent.stream.source import FileSource
from agent.stream.state import Event
from agent.train.files import read_json
from cao.errors import InputError
from cao.files import write_json
from cao.inference.answer_loss import answer_rows
from cao.model.adapters import load_adapter, save_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from cao.types import AdaptedModel, AdapterRef, Example
from eval.continual.results import Step
from eval.continual.stream import Laid
from eval.policies.labelled_lora import ROW_TOKENS, train
from tools.evaluate import evaluate

BASE = "base"
RATE, EPOCHS, BATCH = 3e-4, 3, 8
"""How the last window is trained on: AdamW from the plain model anew, without early stopping."""

Answers = Callable[[Sequence[Example]], list[bool]]
"""Says of questions whether a model answers them rightly."""


@dataclass(frozen=True)
class Bench:
    """What answers.

    Attributes:
        lm: the base model.
        encoder: by which questions are routed, where they are.
        laid: the stream.
        folder: of the stream's work.
        progress: called during long work.
    """

    lm: LanguageModel
    encoder: Encoder
    laid: Laid
    folder: Path
    progress: Progress

    def answers(self, model: str) -> Answers:
        """Return what answers under a model's name: ``base``, ``run:FOLDER`` or ``lora:SHA256``."""
        kind, _, name = model.partition(":")
        if kind == "run":
            return self._adopted(self.folder / "watch" / name)
        adapted = AdaptedModel(members=(self._lora(name) if kind == "lora" else None,))

        def right(asked: Sequence[Example]) -> list[bool]:
            items = evaluate(self.laid.task, asked, adapted, "likelihood", lm=self.lm, progress=self.progress)
            return [item.correct for item in items]

        return right

    def _adopted(self, folder: Path) -> Answers:
        run = read_run(folder)
        if not isinstance(run, RunRecord):
            raise InputError(f"{folder}: has not ended; delete the folder to adapt again")
        model = deployed_or_adopted(run, folder, self.lm, self.encoder, None)

        def right(asked: Sequence[Example]) -> list[bool]:
            given = [{"question": e.question, "choices": list(e.choices), "context": e.context} for e in asked]
            return [one.choice == e.answer for one, e in zip(model.answer_all(given), asked, strict=True)]

        return right

    def _lora(self, sha256: str) -> AdapterRef:
        path = self.folder / "adapters" / sha256
        weights = load_adapter(path, self.lm.sha256)
        return AdapterRef(path=str(path), sha256=sha256, base_sha256=weights.base_sha256, rank=weights.rank)


def on_alarms(laid: Laid, folder: Path, options: WatchOptions, config: Path) -> tuple[list[int], list[Step]]:
    """Watch the stream to its end, adapting on alarms, and return the alarms and what was deployed when.

    It goes on where an earlier process was.

    Args:
        laid: the stream.
        folder: of the stream's work.
        options: of the watch.
        config: of the runs that adapt.
    """
    if not (folder / "watched.json").exists():
        watched(options, FileSource(laid.path), adapting(options, config, make_view), _quiet, _quiet)
        write_json(folder / "watched.json", {"done": True})
    return read_events(options.out / "events.jsonl", options.window)


def _quiet(_: object) -> None:
    """Tell nobody: the events are in their file."""


def read_events(path: Path, window: int) -> tuple[list[int], list[Step]]:
    """Return the alarms of a watch, and what was deployed from which prompt on.

    A window is complete so many prompts behind its alarm; the next prompt is the first that is answered otherwise.

    Args:
        path: the watch's events.
        window: prompts collected behind an alarm.
    """
    alarms, steps, at = list[int](), list[Step](), 0
    for line in path.read_text(encoding="utf-8").splitlines():
        event: Event = json.loads(line)
        if event["event"] == "alarm":
            alarms.append(event["prompt"])
        elif event["event"] == "window":
            at = (event["alarm"] or 0) + window
        elif event["event"] == "expect":
            steps.append(Step(prompt=at, model=BASE, what=f"expects {', '.join(event['tasks'])}"))
        elif event["event"] in ("adapter", "not_adapted"):
            steps[-1] = _deployed(steps[-1], event)
    return alarms, steps


def _deployed(step: Step, event: Event) -> Step:
    if event["event"] == "not_adapted":
        return step.model_copy(update={"what": f"{event['task']}: {event['reason']}"})
    how = "stored, put back" if event["stored"] else event["told"]
    changed = {"model": f"run:{event['run']}", "what": f"{event['task']}: {how}", "stored": event["stored"]}
    return step.model_copy(update=changed)


def on_last_window(bench: Bench, window: int, seed: int) -> list[Step]:
    """Train LoRA on the labels of each full window, from the plain model anew; it answers the next window.

    Args:
        bench: the model and the stream.
        window: prompts.
        seed: of the initialisation and the order.
    """
    kept = bench.folder / "trained.json"
    known = read_json(kept, dict[str, str]) if kept.exists() else {}
    steps = []
    for end in range(window, len(bench.laid.asked), window):
        if str(end) not in known:
            rows = answer_rows(bench.lm, bench.laid.task, bench.laid.asked[end - window : end], ROW_TOKENS)
            start = bench.lm.fresh_lora(seed)
            made = train(bench.lm, rows, start, rate=RATE, epochs=EPOCHS, batch=BATCH, seed=seed)[-1]
            known[str(end)] = save_adapter(bench.folder / "adapters", made, bench.lm.source).sha256
            write_json(kept, known)
        bench.progress("trained on a window", end, len(bench.laid.asked))
        what = f"trained on prompts {end - window + 1} to {end}"
        steps.append(Step(prompt=end, model=f"lora:{known[str(end)]}", what=what))
    return steps

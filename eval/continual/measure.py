"""A stream of tasks A, B, A, C: what three ways of keeping a model up to it come to.

Each prompt is answered by the model that an arm has deployed when it comes; only then may the arm read its label. At
each segment's end questions that no arm ever sees are answered, of every task of the stream. Answers are kept, model by
model, so that a kill costs a few of them; the watch, its runs and the trainings go on where they were.
"""

import json
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from agent.config import RunConfig
from agent.loop.run_folder import locked
from agent.stream.options import WatchOptions
from cao.configuration import Machine
from cao.errors import InputError
from cao.files import append_line, canonical_json, sha256_bytes, whole_lines, write_atomic, write_json
from cao.machine.assets import minilm_folder
from cao.machine.compute import settled
from cao.machine.processor import processor_name
from cao.model.encoder import Encoder
from cao.model.loading import load_model
from cao.progress import Progress
from cao.types import Example
from eval.continual.arms import BASE, Bench, on_alarms, on_last_window
from eval.continual.results import Arm, ArmResult, ContinualResult, Step, Stream
from eval.continual.stream import lay
from eval.options import TablesOptions

FOLDER = Path("runs/continual")
TASKS = ("arc_easy", "boolq", "arc_easy", "piqa")
REFERENCE = "hellaswag"
"""What the model is deployed for at first: none of the stream's tasks, so that each of them is new once."""
ATTEMPTS = 2
TOGETHER = 16
"""Questions that are answered between two writings."""


def measure(options: TablesOptions, command: str, progress: Progress) -> ContinualResult:
    """Measure everything of the table.

    Args:
        options: what is measured.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a task that cannot be used, or the folder was begun with others.
        UnavailableError: data or model are not at hand.
    """
    tasks, work = options.tasks or TASKS, (options.out or FOLDER) / "work"
    if REFERENCE in tasks:
        raise InputError(f"--tasks: {REFERENCE} is what the model is deployed for at first; leave it out")
    work.mkdir(parents=True, exist_ok=True)
    with locked(work, alone=True):
        dtype = _begun(work / "begun.json", options, tasks)
        asked = options.model_copy(update={"dtype": dtype})
        streams = [stream_of(asked, tasks, work / f"seed-{seed}", seed, progress) for seed in options.seeds]
    first = lay(work / f"seed-{options.seeds[0]}", tasks, options.segment, options.limit, options.seeds[0])
    about = json.loads((work / f"seed-{options.seeds[0]}" / "model.json").read_text())
    return ContinualResult(
        command=command,
        table="continual",
        measured=time.strftime("%Y-%m-%d", time.gmtime()),
        **about,
        device=options.device,
        dtype=dtype,
        processor=processor_name(),
        reference=REFERENCE,
        accept=RunConfig.model_fields["accept"].default,
        window=options.window,
        held=options.limit,
        chance={task: _chance(held) for task, held in first.held.items()},
        streams=tuple(streams),
    )


def _chance(held: Sequence[Example]) -> float:
    return round(sum(1 / len(example.choices) for example in held) / len(held), 4)


def _begun(path: Path, options: TablesOptions, tasks: tuple[str, ...]) -> str:
    """Write down what the folder is for, or refuse where it is for something else; return the dtype."""
    keys = {"segment", "window", "limit", "model", "model_path", "device", "pretrained"}
    profile = options.profile.model_dump(mode="json", exclude_none=True)
    wanted = {**options.model_dump(mode="json", include=keys), "tasks": list(tasks), "profile": profile}
    stored = json.loads(path.read_text()) if path.exists() else {}
    dtype = settled(options.dtype, options.device, stored.pop("dtype", None))
    if stored and stored != wanted:
        changed = [key for key, value in wanted.items() if stored.get(key) != value]
        raise InputError(f"{path.parent} was begun with another {changed[0]}; repeat it, or give another --out")
    write_json(path, {**wanted, "dtype": dtype})
    return dtype


def stream_of(options: TablesOptions, tasks: tuple[str, ...], folder: Path, seed: int, progress: Progress) -> Stream:
    """Return what one seed's stream of tasks came to, each way of keeping up."""
    folder.mkdir(exist_ok=True)
    laid = lay(folder, tasks, options.segment, options.limit, seed)
    watch = WatchOptions(
        stream=str(laid.path),
        reference=(REFERENCE,),
        adapt=True,
        window=options.window,
        run_length=max(options.segment, 10 * len(laid.asked)),
        out=folder / "watch",
        seed=seed,
        device=options.device,
        offline=options.offline,
    )
    alarms, deployed = on_alarms(laid, folder, watch, _config(options, folder / "runs.toml"))
    machine = options.model_dump(include={"model", "model_path", "profile", "device", "dtype", "offline"})
    lm = load_model(Machine.model_validate(machine))
    write_json(folder / "model.json", {"model": lm.profile.name, "model_sha256": lm.sha256})
    bench = Bench(lm, Encoder(minilm_folder(), options.device), laid, folder, progress)
    steps: dict[Arm, list[Step]] = {
        "never": [],
        "alarms": [step for step in deployed if step.prompt < len(laid.asked)],
        "last window": on_last_window(bench, options.window, seed),
    }
    arms: dict[Arm, ArmResult] = {arm: _arm(bench, steps[arm]) for arm in steps}
    return Stream(seed=seed, segments=laid.segments, alarms=tuple(alarms), arms=arms)


def _config(options: TablesOptions, path: Path) -> Path:
    """Write the configuration of the runs that adapt."""
    keys = ("model", "model_path", "dtype", "pretrained")
    values = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    lines = [f"{key} = {json.dumps(str(value))}" for key, value in values.items()]
    profile = options.profile.model_dump(mode="json", exclude_none=True)
    lines += [f"profile.{key} = {json.dumps(value)}" for key, value in profile.items()]
    lines += [f"max_attempts = {ATTEMPTS}"]
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def _arm(bench: Bench, steps: Sequence[Step]) -> ArmResult:
    laid, right = bench.laid, list[bool]()
    bounds = [0, *(step.prompt for step in steps), len(laid.asked)]
    models = [BASE, *(step.model for step in steps)]
    for model, (start, end) in zip(models, pairwise(bounds), strict=True):
        right += answered(bench, model, laid.asked[start:end])
    held = []
    for segment in laid.segments:
        last = segment.first + segment.prompts
        model = models[sum(step.prompt < last for step in steps)]  # a step at the very end answers nothing yet
        held.append({task: tuple(answered(bench, model, asked)) for task, asked in laid.held.items()})
    return ArmResult(steps=tuple(steps), right=tuple(right), held=tuple(held))


def answered(bench: Bench, model: str, asked: Sequence[Example]) -> list[bool]:
    """Return whether a model answers each question rightly; what was answered once is not asked again."""
    path = bench.folder / "answers" / f"{sha256_bytes(model.encode())[:16]}.jsonl"
    path.parent.mkdir(exist_ok=True)
    known: dict[str, bool] = dict(json.loads(line) for line in whole_lines(path))
    left = list({example.id: example for example in asked if example.id not in known}.values())
    answers = bench.answers(model) if left else None
    for start in range(0, len(left), TOGETHER):
        assert answers is not None
        some = left[start : start + TOGETHER]
        for example, right in zip(some, answers(some), strict=True):
            known[example.id] = right
            append_line(path, canonical_json([example.id, right]))
        bench.progress(f"answers of {model[:20]}", start + len(some), len(left))
    return [known[example.id] for example in asked]

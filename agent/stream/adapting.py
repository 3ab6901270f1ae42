"""What adapts to a window of new prompts: a run of the graph."""

from collections.abc import Callable, Mapping
from pathlib import Path

from agent import session
from agent.config import RunConfig, make_config
from agent.loop import request
from agent.record.terminal import View
from agent.stream.options import WatchOptions
from agent.stream.state import Adapted
from agent.stream.watcher import Adapt
from cao.configuration import merge
from cao.errors import InputError
from cao.files import sha256_file

SIZES = ("support", "reward", "test")
"""Keys of a run's sizes, in the order in which a window is divided."""


def adapting(options: WatchOptions, file: Path | None, make_view: Callable[[], View]) -> Adapt:
    """Return what adapts to a window: a run of the graph in the watch's folder, resumed if it was cut off.

    Args:
        options: of the watch.
        file: a configuration file, for the runs.
        make_view: makes what shows a run's progress.

    Raises:
        InputError: the configuration cannot be used, whatever the window.
    """
    folder, machine = options.out, options.model_dump(include={"device", "offline"}, exclude_unset=True)

    file_says = make_config(file, {"task": "window"}, [])
    stated = {name: getattr(file_says, name) for name in SIZES if name in file_says.model_fields_set}
    own_seed = "seed" in options.model_fields_set or "seed" not in file_says.model_fields_set
    seed = options.seed if own_seed else file_says.seed

    def configure(path: Path, out: Path, lines: int, stored: Mapping[str, object]) -> RunConfig:
        fresh = {} if stored else {"seed": seed, **sizes_of(lines, stated)}  # a run goes on with its own
        given = {"task": str(path), "out": str(out), **fresh, **machine}
        return make_config(file, merge(stored, given), [])

    request.check_names(configure(folder / "window.jsonl", folder, options.window, {}))

    def adapt(task: str, path: Path) -> Adapted:
        out = folder / "runs" / task
        text = path.read_text(encoding="utf-8")  # not splitlines: a prompt may hold other separators
        lines = sum(1 for line in text.split("\n") if line.strip())
        try:
            stored = _begun(out, path)
            config = configure(path, out, lines, stored.config if stored else {})
            questions, splits, protocol = request.read_task(config)
        except InputError as error:
            return {"run": None, "told": f"{error} (adapting needs questions with their answers)"}

        view = make_view()
        try:
            record = session.run(request.Request(config, questions, splits, protocol, stored), view=view)
        finally:
            view.close()
        improved = record.status == "improved"
        outcome = f"run {record.run_id}: {record.status.replace('_', ' ')}"
        return {"run": f"runs/{task}/{record.run_id}" if improved else None, "told": outcome}

    return adapt


def sizes_of(lines: int, stated: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes of a run on a window: those that are stated, and of the others as much as is left for each.

    Where the window has too few for what is stated, it is divided as if nothing were.

    Args:
        lines: questions of the window.
        stated: part → its size, as a configuration file has it.
    """
    open_parts, left = [name for name in SIZES if name not in stated], lines - sum(stated.values())
    if left < len(open_parts):
        return sizes_of(lines, {})
    share = left // max(1, len(open_parts))
    first = {open_parts[0]: left - share * (len(open_parts) - 1)} if open_parts else {}
    return {**stated, **dict.fromkeys(open_parts, share), **first}


def _begun(out: Path, path: Path) -> request.RunHeader | None:
    """Return the run that was begun on this very window, None where there is none: other windows' are over.

    Args:
        out: folder of the task's runs.
        path: the window.
    """
    found = sorted(out.glob("*/config.json")) if out.exists() else []
    stored = (request.read_stored(out, config.parent.name) for config in found)
    return next((run for run in stored if run.fingerprint.get("task_sha256") == sha256_file(path)), None)

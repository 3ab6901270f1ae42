"""What a run keeps between its steps: held against its hash before it is read again, removed when nobody will read it.

The state names adapters and routes by their hashes, and every line of items has its own. The prompts' token states are
not kept: a process that needs them encodes the prompts once.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from agent.loop.state import State
from agent.record.answering import ANSWERING_FILE
from agent.record.commands import trace_command
from agent.record.measurements import GENERATED
from agent.record.page.questions import QUESTIONS_FILE
from cao.errors import InputError
from cao.files import sha256_file
from cao.model.soft_prompt.either import load_carried
from cao.types import AdaptedModel
from tools.evaluate import load_items


def check(folder: Path, state: State, base_sha256: str, *, items: bool = True) -> None:
    """Refuse to go on from files that are not what was written.

    Args:
        folder: the run's folder.
        state: where the run stands; paths in it are relative to the folder.
        base_sha256: the base model.
        items: whether what was answered is read again, too.

    Raises:
        InputError: a file was changed; the message names it and has the command that makes it again.
    """
    try:
        for path in needed(state):
            if path.endswith(".safetensors"):
                _check_routes(folder / path)
            else:
                load_carried(folder / path, base_sha256)
        for file in sorted((folder / "items").glob("*.jsonl")) if items else ():
            if not file.name.startswith(("kept-", "test-", QUESTIONS_FILE)):  # made again, or only shown
                load_items(file)
        best, reward = state.get("best_items"), state.get("best_reward")
        if best and reward and len(load_items(folder / best)) != reward.n:
            raise InputError(f"{folder / best}: its end is missing")
    except InputError as error:
        again = trace_command("replay", folder.parent, folder.name, "--from", "generate")
        raise InputError(f"{error}; this makes it again, in a run of its own: {again}") from None


def needed(state: State) -> list[str]:
    """Return the adapters and routes that a run goes on from, relative to its folder."""
    return sorted({*_named(state), *_files(state.get("candidate"))})


def _check_routes(path: Path) -> None:
    if not path.is_file() or sha256_file(path) != path.stem.removeprefix("routes-"):
        raise InputError(f"{path}: missing, or its content does not match its hash")


def prune(folder: Path, states: Iterable[State]) -> None:
    """Remove from a finished run's folder what neither its outcome nor a replay reads.

    What a replay starts from keeps its adapters.

    Args:
        folder: the run's folder.
        states: where the run stood at each of its steps.
    """
    named = {Path(path).name for state in states for path in _named(state)}
    for path in sorted((folder / "adapters").glob("*")):
        if path.name in named:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.rmtree(folder / "work", ignore_errors=True)


def summed(folder: Path) -> list[Path]:
    """Return the files of a finished run that nothing changes any more, less those that have hashes of their own."""
    here = [folder / name for name in ("run.json", "config.json", "trace.jsonl", "strategy.json", ANSWERING_FILE)]
    return [path for path in (*here, *folder.glob("items/*"), *folder.glob("adapters/routes-*")) if path.is_file()]


def _named(state: State) -> list[str]:
    """Return the files that what was made, and every model on the way to the one to beat, refer to."""
    made = state.get("adapters")
    adapters = [made[name] for name in GENERATED] if made else []
    models = (state.get("base"), state.get("started"), state.get("best"), *state.get("steps", []))
    return [*(adapter.path for adapter in adapters if adapter), *(path for model in models for path in _files(model))]


def _files(model: AdaptedModel | None) -> list[str]:
    """Return the files that a model refers to."""
    if model is None:
        return []
    routes = [model.centroids] if model.centroids else []
    return [*(member.path for member in model.members if member), *routes]

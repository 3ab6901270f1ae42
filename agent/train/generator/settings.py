"""What a consolidation's command line asks for, checked before anything is computed."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent.train.engine.settings import EngineSettings
from agent.train.generator.presets import PRESETS, Preset
from cao.configuration import assigned, explain
from cao.errors import InputError, UnavailableError
from cao.model.encoder import MAX_TOKENS
from cao.model.loading import weights_sha256
from cao.model.profiles import MODELS, find_profile
from cao.tasks import TASKS
from cao.types import DtypeChoice

MAY_BE_ZERO = ("warm_steps", "behaviour_from")
"""Whole numbers of a preset that may be 0; all others are 1 or more."""

STATE_WIDTH = 384
"""Channels of the frozen encoder's token states."""


@dataclass(frozen=True)
class Settings:
    """What the command line asks for.

    Attributes:
        model: a model profile.
        preset: a preset's name, the model's own when None.
        seed: of every draw.
        out: folder of runs.
        workers: processes.
        device: torch device.
        dtype: what the model computes in; ``auto`` takes what the folder was begun with, else the faster one here.
        assignments: ``--set`` texts.
        offline: never touch the network.
        engine: what runs the workers.
    """

    model: str
    preset: str | None
    seed: int
    out: Path
    workers: int
    device: str
    assignments: tuple[str, ...]
    offline: bool
    engine: EngineSettings = field(default_factory=EngineSettings)
    dtype: DtypeChoice = "auto"

    def resolved(self) -> tuple[Preset, str | None]:
        """Return the preset with the assignments laid over it, and the model's folder where one is given.

        Raises:
            InputError: an unknown model, preset, source or key, or a value of another type or out of range.
        """
        profile = find_profile(self.model)
        if self.workers < 1 or self.seed < 0:
            raise InputError("--workers is 1 or more, --seed 0 or more")
        name = self.preset or profile.preset
        if name not in PRESETS:
            raise InputError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        values = assigned(self.assignments)
        path = values.pop("model_path", None)
        if path is not None and (not isinstance(path, str) or not path or "\0" in path):
            raise InputError(f"--set model_path: expected a folder, found {path!r}")
        preset = _typed(_over(PRESETS[name], values, ""))
        _check_sizes(preset, "")
        _check_tasks(preset)
        _check_ladder(preset)
        _check_losses(preset)
        return preset, path

    @property
    def folder(self) -> Path:
        """The consolidation's folder, the same for the same command."""
        preset = self.preset or MODELS[self.model].preset
        return self.out / f"consolidate-{self.model}-{preset}-s{self.seed}"

    def claim(self) -> dict[str, Any]:
        """Return what a folder is for, in JSON values: everything that its files depend on.

        Raises:
            UnavailableError: the model's folder is none.
        """
        preset, path = self.resolved()
        if path and not (Path(path) / "config.json").is_file():
            raise UnavailableError(f"{path} is no model folder (no config.json); give one with --set model_path=DIR")
        given = weights_sha256(Path(path)) if path else None
        return {
            "model": self.model,
            "model_path_sha256": given,
            "seed": self.seed,
            "dtype": self.dtype,
            "preset": _plain(preset),
        }


def _plain(preset: Preset) -> Any:
    return TypeAdapter(Preset).dump_python(preset, mode="json")


def _typed(preset: Preset) -> Preset:
    """Return the preset with every nested value checked against its type."""
    try:
        checked: Preset = TypeAdapter(Preset).validate_python(dataclasses.asdict(preset))
    except ValidationError as error:
        raise InputError(f"--set {explain(error)}") from None
    return checked


def _over(record: Any, values: dict[str, Any], where: str) -> Any:
    """Return a frozen dataclass with some values replaced, refusing what does not fit."""
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in {each.name for each in dataclasses.fields(record)} or key == "name":
            raise InputError(f"--set {where}{key}: unknown key")
        before = getattr(record, key)
        if dataclasses.is_dataclass(before) and isinstance(value, dict):
            changed[key] = _over(before, value, f"{where}{key}.")
            continue
        value = _tuples(value)
        fits = isinstance(value, type(before)) or (isinstance(before, float) and isinstance(value, int))
        if not fits or isinstance(value, bool) != isinstance(before, bool):
            raise InputError(f"--set {where}{key}: expected {type(before).__name__}, found {value!r}")
        changed[key] = float(value) if isinstance(before, float) else value
    return dataclasses.replace(record, **changed)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _check_sizes(value: Any, where: str) -> None:
    """Raise InputError where a number of a preset is out of range."""
    if dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            _check_sizes(getattr(value, each.name), f"{where}.{each.name}" if where else each.name)
    elif isinstance(value, tuple):
        for item in value:
            _check_sizes(item, where)
    elif isinstance(value, int) and not isinstance(value, bool):
        least = 0 if where.rsplit(".", 1)[-1] in MAY_BE_ZERO else 1
        if not least <= value < 2**31:
            raise InputError(f"--set {where}: {value} is out of range, {least} is the least")
    elif isinstance(value, float) and not (math.isfinite(value) and value >= 0):
        raise InputError(f"--set {where}: {value} is no number of 0 or above")


def _check_tasks(preset: Preset) -> None:
    """Raise InputError where a task is unknown, given twice, or has nothing to train on."""
    unknown = [task for task in (*preset.sources, *preset.leave_out) if task not in TASKS]
    if unknown or not preset.sources:
        raise InputError(f"sources: no task is called {unknown[0]!r}" if unknown else "sources: there are none")
    if len(set(preset.sources)) < len(preset.sources):
        raise InputError("sources: a task is given twice")
    untrainable = [task for task in preset.sources if not TASKS[task].has_train]
    if untrainable:
        raise InputError(f"sources: {untrainable[0]} sets nothing aside for training")
    if len(preset.sources) == 1 and preset.sources[0] in preset.leave_out:
        raise InputError("leave_out: nothing is left without the only source; add --set leave_out=[]")


def _check_losses(preset: Preset) -> None:
    """Raise InputError where a step of the generator would have nothing to learn from."""
    if preset.generator.reconstruction == 0 and preset.generator.behaviour_from > 0:
        raise InputError(
            "generator.reconstruction=0: every step needs the answers' loss; set generator.behaviour_from=0"
        )


def _check_ladder(preset: Preset) -> None:
    """Raise InputError where the decoder does not begin at the encoder's token states."""
    ladder, (h, w) = preset.ladder, preset.token
    if len(ladder.shapes) < 2 or ladder.shapes[0][1:] != (MAX_TOKENS, STATE_WIDTH) or ladder.kernel % 2 == 0:
        raise InputError(f"ladder: it begins at (N, {MAX_TOKENS}, {STATE_WIDTH}), has two shapes and an odd kernel")
    if ladder.shapes[-1][1] < h or ladder.shapes[-1][2] < w:
        raise InputError(f"ladder: its last shape {ladder.shapes[-1]} is too small for tokens of {preset.token}")

"""What a consolidation's command line asks for, checked before anything is computed."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import JsonValue, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from agent.train.engine.settings import EngineSettings
from agent.train.generator.options import ConsolidateOptions
from agent.train.generator.own import hashes, named
from agent.train.generator.presets import PRESETS, Preset
from agent.train.generator.variants import variants
from cao.configuration import explain, merge
from cao.errors import InputError
from cao.model.encoder import CHANNELS, MAX_TOKENS
from cao.model.loading import described, given_sha256, resolve
from cao.model.profiles import ModelProfile, is_place
from cao.model.profiles.inferred import described_shapes
from cao.profile_settings import ProfileSettings
from cao.tasks import PRACTICE, TASKS


class Claim(TypedDict, total=False):
    """What a consolidation's folder is for, as its ``config.json`` states it; older versions knew fewer keys."""

    model: str
    model_path_sha256: str | None
    profile: JsonValue
    seed: int
    dtype: str
    preset: dict[str, JsonValue]
    files: dict[str, str]


class Settings(ConsolidateOptions):
    """What the command line and the file ask for.

    Attributes:
        engine: what runs the workers.
    """

    engine: EngineSettings = EngineSettings()

    @property
    def base(self) -> ModelProfile:
        """The base model's profile, inferred where it has none; no weights are read."""
        return _base(self.model, self.profile, self.model_path, self.offline)

    def resolved(self) -> Preset:
        """Return the preset with the values laid over it; a decoder for a model without a profile ends as it needs.

        Raises:
            InputError: an unknown model, preset, source or key, or a value of another type or out of range.
        """
        base, name = self.base, self.preset or self.base.preset
        if name not in PRESETS:
            raise InputError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        if elsewhere := {"name", "sources"} & set(self.values):  # sources are a setting of their own
            raise InputError(f"--set {min(elsewhere)}: unknown key of a preset")
        changed = merge(PRESETS[name].model_dump(mode="json"), self.values)
        changed |= {"sources": list(self._named[0])}
        if "extra" in self.values:  # names of one's own choice: they replace the preset's, so that {} means none
            changed["extra"] = self.values["extra"]
        try:
            preset = Preset.model_validate_json(json.dumps(changed, default=str), strict=True)
        except ValidationError as error:
            raise InputError(f"--set {explain(error)}") from None
        if base.architecture and "ladder" not in self.values:
            preset = preset.fitted(_shapes(base, self.offline), base.lora_rank, base.lora_alpha)
        _check_tasks(preset, self.files)
        _check_ladder(preset)
        _check_losses(preset)
        return preset

    @property
    def files(self) -> dict[str, str]:
        """The file of each source that is one of the user's.

        Raises:
            InputError: a file cannot be one.
        """
        return self._named[1]

    @property
    def _named(self) -> tuple[tuple[str, ...], dict[str, str]]:
        presets = PRESETS[self.preset or self.base.preset].sources
        return (presets, {}) if self.sources is None else named(self.sources, presets)

    @property
    def folder(self) -> Path:
        """The consolidation's folder, the same for the same command."""
        base = self.base
        return Path(self.out) / f"consolidate-{base.name}-{self.preset or base.preset}-s{self.seed}"

    def claim(self) -> Claim:
        """Return what a folder is for, in JSON values: everything that its files depend on.

        Raises:
            UnavailableError: the model's folder is none.
        """
        base, preset = self.base, self.resolved()
        place = self.model_path or (self.model if is_place(self.model) else None)
        return {
            "model": base.source if base.architecture else base.name,
            "model_path_sha256": given_sha256(place) if place else None,
            "profile": self.profile.model_dump(mode="json", exclude_none=True) or None,
            "seed": self.seed,
            "dtype": self.dtype,
            "preset": preset.model_dump(mode="json"),
            **(Claim(files=hashes(self.files)) if self.files else {}),
        }


@cache
def _base(model: str, profile: ProfileSettings, path: str | None, offline: bool) -> ModelProfile:
    return resolve(model, profile, path=path, offline=offline)


@cache
def _shapes(base: ModelProfile, offline: bool) -> dict[str, tuple[int, int]]:
    return described_shapes(described(base.source, offline), base.lora_targets)


def _check_tasks(preset: Preset, files: Mapping[str, str]) -> None:
    """Raise InputError where a task is unknown, given twice, or has nothing to train on."""
    known = TASKS | PRACTICE
    extra = [task for sources in preset.extra.values() for task in sources]
    unknown = [task for task in (*preset.sources, *preset.leave_out, *extra) if task not in (*known, *files)]
    if unknown or not preset.sources:
        raise InputError(f"sources: no task is called {unknown[0]!r}" if unknown else "sources: there are none")
    if len(set(preset.sources)) < len(preset.sources):
        raise InputError("sources: a task is given twice")
    untrainable = [task for task in (*preset.sources, *extra) if task in known and not known[task].has_train]
    if untrainable:
        raise InputError(f"sources: {untrainable[0]} sets nothing aside for training")
    if len(preset.sources) == 1 and preset.sources[0] in preset.leave_out:
        raise InputError("leave_out: nothing is left without the only source; add --set leave_out=[]")
    if preset.folds == 1 or preset.folds > len(preset.sources):
        raise InputError(f"folds: {preset.folds} of {len(preset.sources)} sources leave a fold nothing; 0 means none")
    if empty := [variant.name for variant in variants(preset) if not variant.sources]:
        raise InputError(f"sources: all of them have problems of those that {empty[0]} leaves out; add others")
    if preset.gains and preset.folds and not preset.generator.choices:
        raise InputError("gains: such an aligner is trained by choices; set folds=0 for none, or generator.choices=1")
    if "full" in preset.extra or not all(preset.extra.values()):
        raise InputError("extra: a set of sources has another name than full, and at least one source")


def _check_losses(preset: Preset) -> None:
    """Raise InputError where a step of the generator would have nothing to learn from."""
    if preset.generator.reconstruction == 0 and preset.generator.behaviour_from > 0:
        raise InputError(
            "generator.reconstruction=0: every step needs the answers' loss; set generator.behaviour_from=0"
        )


def _check_ladder(preset: Preset) -> None:
    """Raise InputError where the decoder does not begin at the encoder's token states."""
    ladder, (h, w) = preset.ladder, preset.token
    if len(ladder.shapes) < 2 or ladder.shapes[0][1:] != (MAX_TOKENS, CHANNELS) or ladder.kernel % 2 == 0:
        raise InputError(f"ladder: it begins at (N, {MAX_TOKENS}, {CHANNELS}), has two shapes and an odd kernel")
    if preset.head == "tokens" and (ladder.shapes[-1][1] < h or ladder.shapes[-1][2] < w):
        raise InputError(f"ladder: its last shape {ladder.shapes[-1]} is too small for tokens of {preset.token}")

"""Which models a run would load, and what their weights take, known before any is loaded."""

from pathlib import Path

from agent.config import RunConfig
from cao.machine.compute import Compute
from cao.model.memory import BYTES, Need
from cao.model.profiles import ModelProfile, known, laid_over
from cao.profile_settings import ProfileSettings

TASK, POLICY = "task model", "policy model"


def task_profile(config: RunConfig) -> ModelProfile:
    """Return the profile of the run's model, as far as it is known without its weights."""
    return _profile(config.model, config.profile, config.model_path, offline=config.offline)


def models_memory(config: RunConfig, compute: Compute) -> list[Need]:
    """Return what each model of a run takes; a policy that works with the run's own model adds nothing.

    Args:
        config: the run's configuration.
        compute: for the number format.
    """
    size, settings = BYTES[compute.dtype], config.policy_settings
    task = task_profile(config)
    needs = [Need(TASK, task.name, size * task.parameters)]
    if "local" in (config.policy, config.describer) and (settings.model or settings.model_path):
        own = _profile(settings.model or config.model, settings.profile, settings.model_path, offline=config.offline)
        if settings.model_path or (own.name, own.source) != (task.name, task.source):
            needs.append(Need(POLICY, own.name, size * own.parameters))
    return needs


def _profile(model: str, settings: ProfileSettings | None, path: str | None, *, offline: bool) -> ModelProfile:
    profile = known(model)
    if profile is None or (path and Path(path).is_dir()):
        from cao.model.loading import resolve  # noqa: PLC0415  (torch; known names are planned without it)

        return resolve(model, settings, path=path, offline=offline)
    return laid_over(profile, settings) if settings else profile

"""The local policy as commands build it: its own model or the run's, and what its training made of it."""

from pathlib import Path

from cao.errors import InputError
from cao.model.adapters import LoraWeights, load_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS, find_profile
from cao.policy_settings import PolicySettings
from policies.local import LocalPolicy
from policies.trained import find_policy, index_of


def build(settings: PolicySettings, lm: LanguageModel | None, offline: bool, pretrained: str | None) -> LocalPolicy:
    """Return the local policy with its model and its training.

    Args:
        settings: how it works.
        lm: the run's own model, used unless the settings name another.
        offline: never leave this machine.
        pretrained: the folder of trained parts; None for the shipped one.

    Raises:
        InputError: no model is named, or the adapter is another model's.
        UnavailableError: the model is not at hand.
    """
    profile = find_profile(settings.model, "the policy") if settings.model is not None else lm.profile if lm else None
    if profile is None:
        raise InputError("the local policy needs a model; name one of: " + ", ".join(MODELS))
    if lm is None or settings.model_path is not None or profile.name != lm.profile.name:
        device = lm.device if lm else "cpu"
        dtype = lm.compute.dtype if lm and lm.compute else "auto"
        lm = load_language_model(profile, path=settings.model_path, device=device, dtype=dtype, offline=offline)
    return LocalPolicy(lm, settings, _adapter(settings.adapter, lm, pretrained))


def _adapter(named: str, lm: LanguageModel, pretrained: str | None) -> LoraWeights | None:
    """Return the trained policy's adapter: the one among the trained parts, a folder's, or none."""
    if named == "none":
        return None
    auto = named == "auto"
    weights = find_policy(lm.sha256, index_of(pretrained)) if auto else load_adapter(Path(named), lm.sha256)
    if weights is not None:
        lm.check_fit(weights)
    return weights

"""The table of policies, and the one function that builds from it; what computes is imported by what is built."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from cao.errors import InputError
from cao.policy_settings import PolicySettings
from policies.base import Policy
from policies.fixed import FixedPolicy
from policies.selection.learnt import Selection, check_there, read_selection, selection_file
from policies.selection.portfolio import PortfolioPolicy
from policies.selection.ranked import RankedPolicy
from policies.selection.surrogate import SurrogatePolicy
from policies.uniform import RandomPolicy

if TYPE_CHECKING:
    from cao.model.language_model import LanguageModel

Builder = Callable[[PolicySettings, Optional["LanguageModel"], bool, str | None], Policy]


def _local(settings: PolicySettings, lm: "LanguageModel | None", offline: bool, pretrained: str | None) -> Policy:
    from policies.local import build  # noqa: PLC0415  (torch; the other policies need none)

    policy = build(settings, lm, offline, pretrained)
    if settings.draws == 1:
        return policy
    return RankedPolicy(policy, _selection(lm, pretrained).surrogate, settings.draws)


def _random(settings: PolicySettings, lm: "LanguageModel | None", offline: bool, pretrained: str | None) -> Policy:
    return RandomPolicy()


def _openai(settings: PolicySettings, lm: "LanguageModel | None", offline: bool, pretrained: str | None) -> Policy:
    from policies.openai import OpenAIPolicy  # noqa: PLC0415  (half a second, for its policy alone)

    return OpenAIPolicy(settings, offline=offline)


def _fixed(settings: PolicySettings, lm: "LanguageModel | None", offline: bool, pretrained: str | None) -> Policy:
    if settings.strategy_file is None:
        run, alone = "--set policy_settings.strategy_file=FILE", "--strategy-file FILE of policies.propose"
        raise InputError(f"the fixed policy needs a file of strategies: {run} ({alone})")
    return FixedPolicy(Path(settings.strategy_file))


def _selection(lm: "LanguageModel | None", pretrained: str | None) -> Selection:
    if lm is None:
        raise InputError("a portfolio and a surrogate are learnt for one base model; it must be loaded first")
    return read_selection(selection_file(lm.profile.name, pretrained), lm.sha256)


def _portfolio(settings: PolicySettings, lm: "LanguageModel | None", offline: bool, pretrained: str | None) -> Policy:
    return PortfolioPolicy(_selection(lm, pretrained).portfolio)


def _surrogate(settings: PolicySettings, lm: "LanguageModel | None", offline: bool, pretrained: str | None) -> Policy:
    return SurrogatePolicy(_selection(lm, pretrained).surrogate)


POLICIES: dict[str, Builder] = {
    "local": _local,
    "openai": _openai,
    "fixed": _fixed,
    "random": _random,
    "portfolio": _portfolio,
    "surrogate": _surrogate,
}


OF_A_MODEL = ("local", "portfolio", "surrogate")
"""Policies that ask the run's own model, or were learnt for it: it must be loaded for them."""


def learnt_file(name: str, settings: PolicySettings, model: str, pretrained: str | None = None) -> Path | None:
    """Return the file of what a policy learnt from practice, None for one that reads none.

    Args:
        name: a key of ``POLICIES``.
        settings: how it works.
        model: the base model's name in its profile.
        pretrained: the folder of trained parts; None for the shipped one.
    """
    reads = name in ("portfolio", "surrogate") or (name == "local" and settings.draws > 1)
    return selection_file(model, pretrained) if reads else None


def check_learnt(name: str, settings: PolicySettings, model: str, pretrained: str | None = None) -> None:
    """Find out, before any model is loaded, whether what a policy was to have learnt is there; arguments as above.

    Raises:
        UnavailableError: it is not; the message has the command that makes it.
    """
    if path := learnt_file(name, settings, model, pretrained):
        check_there(path)


def build_policy(
    name: str, settings: PolicySettings, *, lm: "LanguageModel | None", offline: bool, pretrained: str | None = None
) -> Policy:
    """Return the policy that a name stands for.

    Args:
        name: a key of ``POLICIES``.
        settings: how it works.
        lm: the run's own model, which the local policy shares unless its settings name another; ``OF_A_MODEL`` need
            it.
        offline: never leave this machine.
        pretrained: the folder of trained parts; None for the shipped one.

    Raises:
        InputError: the name is unknown, or the settings lack what the policy needs.
        UnavailableError: its model or its key is not at hand.
    """
    if name not in POLICIES:
        raise InputError(f"unknown policy {name!r}; known: {', '.join(POLICIES)}")
    return POLICIES[name](settings, lm, offline, pretrained)

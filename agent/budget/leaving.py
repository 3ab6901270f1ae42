"""What a run would send to other machines, and to which; nothing is asked here."""

import os
from collections.abc import Iterator
from typing import TypedDict

from agent.config import RunConfig
from cao.command_line import TRACING
from cao.errors import InputError
from cao.model.profiles import hub_address, is_place, known
from cao.tasks import TASKS
from cao.tasks.base import Task
from policies.base import REPLIES
from policies.client.address import OFFICIAL_URL, is_loopback, origin
from policies.describe import MAX_PAIRS

TRACES = "https://api.smith.langchain.com"
HUB_ASKED = "its name, with versions of Python and of libraries, and the hub's token where there is one"
ALREADY = "; this plan has asked for it, too"
WITH_KEY = "; with the key in OPENAI_API_KEY"
YES = ("1", "on", "yes", "true")


class Leaving(TypedDict):
    """One kind of message that leaves this machine.

    Attributes:
        to: scheme, host and port; nothing else of an address, which may carry a password.
        why: what the run wants there.
        what: what is sent.
    """

    to: str
    why: str
    what: str


def leaving(config: RunConfig, task: Task, attempts: int) -> list[Leaving]:
    """Return what a run sends to other machines; a server on this machine is none.

    Args:
        config: the run's configuration.
        task: what would be adapted to.
        attempts: proposals that the policy would be asked for at most.
    """
    if config.offline:
        return []
    return [*_to_server(config, task, attempts), *_to_hub(config, task), *_traces()]


def _to_server(config: RunConfig, task: Task, attempts: int) -> Iterator[Leaving]:
    settings = config.policy_settings
    address = settings.base_url or OFFICIAL_URL
    if is_loopback(address):
        return
    if config.describer == "openai":
        which = "questions of the train part with their answers" if task.has_train else "support prompts, no answer"
        what = f"{MAX_PAIRS} {which}, the beginning of each; nothing where a reply to the same is kept{WITH_KEY}"
        yield {"to": origin(address), "why": f"the describer {settings.openai_model}", "what": what}
    if config.policy == "openai" and attempts:
        ours = task.description and config.describer == "cached"
        seen = [
            "the task's description" + ("" if ours else " (it may name words of the questions)"),
            "the model's accuracy and log-loss",
            *(["the drift verdict with the nearest task's name"] if config.policy_sees_drift else []),
            *(["what was measured of prompts and adapters"] if config.policy_sees_measurements else []),
            "the attempts so far and what came of them",
        ]
        what = f"{', '.join(seen)}; no question{WITH_KEY}; up to {REPLIES} replies an attempt"
        yield {"to": origin(address), "why": f"the policy {settings.openai_model}", "what": what}


def _to_hub(config: RunConfig, task: Task) -> Iterator[Leaving]:
    address = hub_address()
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in YES or _here(address):
        return
    settings, writers = config.policy_settings, {config.policy, config.describer}
    models = [(config.model, config.model_path)]
    if settings.model and ("local" in writers or (config.describer == "cached" and not task.description)):
        models.append((settings.model, settings.model_path))
    for source in dict.fromkeys(filter(None, (_hub_id(*model) for model in models))):
        asked = "" if known(source) else ALREADY
        yield {"to": _shown(address, "HF_ENDPOINT"), "why": f"the model {source}", "what": HUB_ASKED + asked}
    named = [TASKS[name] for name in (task.name, config.prompts or "", *config.reference) if name in TASKS]
    for source in dict.fromkeys(each.hub for each in named if each.hub):
        yield {"to": _shown(address, "HF_ENDPOINT"), "why": f"the data set {source}", "what": HUB_ASKED + ALREADY}


def _hub_id(model: str, path: str | None) -> str | None:
    """Return what the hub is asked for to have a model, None where all of it is here."""
    profile = known(model)
    if profile is None:  # the profile is read off the hub's configuration, wherever the weights are
        return None if is_place(model) else model
    return profile.source if profile.on_hub and not path else None


def _traces() -> Iterator[Leaving]:
    """LangGraph's own tracing, which the environment turns on."""
    endpoints = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")
    asked, address = (next(filter(None, map(os.environ.get, names)), "") for names in (TRACING, endpoints))
    address = address or TRACES
    if asked == "true" and not _here(address):
        what = "every step's state: the task's description, drift, scores, strategies, replies of a policy; no question"
        yield {"to": _shown(address, "LANGSMITH_ENDPOINT"), "why": "tracing by LangSmith", "what": what}


def _here(address: str) -> bool:
    try:
        return is_loopback(address)
    except InputError:
        return False


def _shown(address: str, variable: str) -> str:
    try:
        return origin(address)
    except InputError:
        return f"the address in {variable}"

"""The policy behind a server, as its tests ask it."""

from typing import Any

from cao.policy_settings import PolicySettings
from policies.openai import OpenAIPolicy


def policy(server: Any, **settings: Any) -> OpenAIPolicy:
    return OpenAIPolicy(PolicySettings(base_url=server.url, **{"timeout_s": 5, **settings}), offline=True)

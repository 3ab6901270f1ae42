"""What the doctor says of the hub models."""

import http.client
import os
import urllib.request
from pathlib import Path

from agent.health.checks import Check
from cao.model.profiles import MODELS, hub_address

TIMEOUT_S = 3.0


def check_hub(*, offline: bool) -> list[Check]:
    """Say of each hub model whether it lies in the hub's cache, and else whether it could be fetched.

    Args:
        offline: do not ask the hub.
    """
    rows, reachable = [], None
    for profile in MODELS.values():
        if not profile.on_hub:
            continue
        snapshots = hub_cache() / f"models--{profile.source.replace('/', '--')}" / "snapshots"
        if any((path.parent / "config.json").exists() for path in snapshots.glob("*/*.safetensors")):
            rows.append(Check(profile.name, "ok", f"{profile.source} in {snapshots.parent}"))
            continue
        if not offline and reachable is not False:  # one silent hub is waited for once
            reachable = _reachable(profile.source)
        state = "the hub was not asked" if offline else "the hub has it" if reachable else "the hub cannot be reached"
        rows.append(
            Check(
                profile.name,
                "optional",
                f"{profile.source} is not downloaded; {state}",
                f"hf download {profile.source}",
            )
        )
    return rows


def hub_cache() -> Path:
    """Return the hub client's cache folder, by its own rules, without importing it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def _reachable(source: str) -> bool:
    request = urllib.request.Request(f"{hub_address()}/{source}/resolve/main/config.json", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return True
    except (OSError, ValueError, http.client.HTTPException):  # ValueError: an endpoint that is no address
        return False

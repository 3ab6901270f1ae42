"""The settings of the commands here, read once it is known that no other package hides ours."""

import argparse
from typing import TypeVar

from cao.types import Record

Settings = TypeVar("Settings", bound=Record)


def settings_of(model: type[Settings], arguments: argparse.Namespace, table: str) -> Settings:
    """Return a command's settings, as ``agent.config.settings_of`` does; call it within the command's body."""
    from agent import config  # noqa: PLC0415  (a package of the user's may hide it, which is told before)

    return config.settings_of(model, arguments, table)

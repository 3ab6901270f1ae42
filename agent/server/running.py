"""The command behind its options: everything is checked and loaded, then served until a signal ends it."""

import contextlib
import json
import os
import sys
from pathlib import Path

from agent.server.building import make_site
from agent.server.roster import Roster, places
from agent.server.settings import KEY, ServeOptions
from agent.server.web import Web, address, bound
from cao.errors import InputError

LEAST_KEY = 8


def serve(options: ServeOptions, file: Path | None, *, as_json: bool) -> int:
    """Serve until a signal ends it; requests under way are answered first.

    Args:
        options: what the command takes.
        file: a configuration file, for the runs that adapt.
        as_json: say in JSON where it serves.

    Raises:
        InputError: an option, or a folder that is named, cannot be used.
        UnavailableError: a model is not at hand, or the address is taken.
    """
    key = read_key()
    lying = places(options)
    with contextlib.closing(bound(options.host, options.port)) as sock:
        site = make_site(options, lying, key, file)
        try:
            web = Web(
                site.app,
                options.timeout_s,
                options.drain_s,
                lambda: _tell(address(sock), site.roster, key, as_json=as_json),
            )
            with contextlib.suppress(KeyboardInterrupt):  # raised behind the end of what the signal ended
                web.run(sockets=[sock])
        finally:
            site.stop()
    cut = f"{web.cut} requests were cut off, unanswered after {options.drain_s:g} s (--drain-s)"
    sys.stderr.write(f"{cut if web.cut else 'every request was answered'}; ended\n")
    return 0


def read_key() -> str:
    """Return the key that requests must bear, empty where none is set.

    Raises:
        InputError: it is no key.
    """
    key = os.environ.get(KEY, "").strip()
    if key and (len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key):
        raise InputError(f"{KEY} is no key: at least {LEAST_KEY} printable ASCII characters without blanks")
    return key


def _tell(url: str, roster: Roster, key: str, *, as_json: bool) -> None:
    """Say where requests are taken."""
    if as_json:
        told = {"url": f"{url}/v1", "models": roster.names, "key": bool(key)}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        needs = f"needs the key in {KEY}" if key else f"no key is needed; to need one: export {KEY}=…"
        sys.stdout.write(f"serving {', '.join(roster.names)} on {url}/v1 ({needs})\n")
    sys.stdout.flush()

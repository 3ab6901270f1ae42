"""Addresses of servers: what may be said of one, and whether it is this machine."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from cao.errors import InputError

OFFICIAL_URL = "https://api.openai.com/v1"
_NAMES = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]*)?", re.IGNORECASE)


def origin(url: str) -> str:
    """Return scheme, host and port: an address may carry a password.

    Raises:
        InputError: this is no address.
    """
    parts = _split(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own.

    Raises:
        InputError: this is no address.
    """
    host = _split(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_this_machine(host: str) -> bool:
    """Return whether a request's Host header is a name of this machine, with any port or none.

    A page elsewhere can have its own name lead to this machine (DNS rebinding), and then reads what is answered to it.
    """
    return _NAMES.fullmatch(host) is not None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port):
            return parts
    except ValueError:
        pass
    raise InputError("base_url is no address; write it like http://127.0.0.1:8000/v1")

"""Addresses of servers: what may be said of one, and whether it is this machine."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

from cao.errors import InputError

OFFICIAL_URL = "https://api.openai.com/v1"


def origin(url: str) -> str:
    """Return scheme, host and port: an address may carry a password.

    Raises:
        InputError: this is no address.
    """
    parts = _split(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


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


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port):
            return parts
    except ValueError:
        pass
    raise InputError("base_url is no address; write it like http://127.0.0.1:8000/v1")

"""Waiting for what a request is to be told, as long as somebody waits for it."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request as Http

from agent.server.errors import ApiError

T = TypeVar("T")


async def unless_gone(coming: Coroutine[object, object, T], http: Http) -> T:
    """Return what comes, unless whoever asked goes away first.

    Args:
        coming: what is waited for.
        http: the request.

    Raises:
        ApiError: they did.
    """
    wanted = asyncio.ensure_future(coming)
    gone = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise ApiError(499, "nobody waits for the answer", "gone")
    finally:
        wanted.cancel()
        gone.cancel()


async def _gone(http: Http) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass

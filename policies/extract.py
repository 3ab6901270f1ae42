"""Finding the JSON object in what a model wrote: behind its reasoning, in a fence, among other words, in a call."""

import json
import re

MAX_SCANNED = 16_384
MAX_STARTS = 64
"""Braces to try; text of nothing but braces must not cost quadratic time."""

_NAMES = "think|thinking|thought|reasoning|analysis"
_THOUGHT_ENDS = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
_THOUGHT_BEGINS = re.compile(rf"<(?:{_NAMES})>|\[THINK\]|<\|channel\|>analysis<\|message\|>", re.IGNORECASE)
_WRAPPING = re.compile(
    r'\s*\{\s*(?:"(?:id|type|name)"\s*:\s*"[^"\\]*"\s*,\s*)*"(?:strategy|function|arguments|parameters)"\s*:\s*'
)
_CLOSED = re.compile(r"\s*\}\s*")
_DECODER = json.JSONDecoder()


def answer(text: str) -> str:
    """Return the object that a model's text states, or the text itself where there is none.

    Args:
        text: anything.
    """
    value = first_object(text)
    return text if value is None else unwrap(value)


def after_reasoning(text: str) -> str:
    """Return what a model wrote behind its reasoning; reasoning that never ends has nothing behind it.

    Args:
        text: anything; text without marks of reasoning comes back as it is.
    """
    start = max((mark.end() for mark in _THOUGHT_ENDS.finditer(text)), default=0)
    unfinished = _THOUGHT_BEGINS.search(text, start)
    return text[start : unfinished.start() if unfinished else None]


def first_object(text: str) -> str | None:
    """Return the first JSON object behind the reasoning in ``text``, as it stands there, or None.

    Args:
        text: anything; only the beginning of what follows the reasoning is searched.
    """
    head = after_reasoning(text)[:MAX_SCANNED]
    for start in [match.start() for match in re.finditer(r"\{", head)][:MAX_STARTS]:
        try:
            _, end = _DECODER.raw_decode(head, start)
        except (ValueError, RecursionError):
            continue
        return head[start:end]
    return None


def unwrap(text: str) -> str:
    """Return the text of the object under the one root key ``strategy`` or in a call's arguments, or ``text`` itself.

    What is inside is never decoded and written again, so that repeated keys and NaN still meet the strict parser.

    Args:
        text: anything; only a short text that is one JSON object is unwrapped.
    """
    while len(text) <= MAX_SCANNED and (wrapping := _WRAPPING.match(text)):
        try:
            value, end = _DECODER.raw_decode(text, wrapping.end())
        except (ValueError, RecursionError):
            break
        if not _CLOSED.fullmatch(text, end) or not isinstance(value, str | dict):
            break
        text = value if isinstance(value, str) else text[wrapping.end() : end]
    return text

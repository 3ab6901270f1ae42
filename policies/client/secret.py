"""A key, kept out of whatever a server sends back: whole, in part, or in another spelling."""

import base64
import re
from collections.abc import Iterator

MARK = "[key]"
PART = 8
"""Letters and digits in a row of a key that are not shown; fewer, as the last four, are what providers show."""

SHORTEST = 12
"""Letters and digits of a key whose parts are looked for. A shorter one is a word such as ``EMPTY`` or ``ollama``."""

_GRAM = 4
_NOISE = re.compile(r"[^A-Za-z0-9]+")
_SIGN = re.compile(r"[A-Za-z0-9]")


class Secret:
    """One key.

    Only letters and digits are compared, and their case is not, so that a part is found with blanks, line breaks or
    escapes in it, and in both alphabets of base64.
    """

    def __init__(self, key: str) -> None:
        """Take the key.

        Args:
            key: may be empty, which is no secret.
        """
        self._key = key
        signs = _squeezed(key)
        part = min(PART, len(signs) // 2)
        spellings = [(signs, part)] if len(signs) >= SHORTEST else []
        if spellings:
            raw = key.encode()
            spellings.append((raw.hex(), 2 * part))
            spellings.append(("".join(f"u{byte:04x}" for byte in raw), 5 * part))  # JSON's escapes
            for shift in range(3):  # where the key begins inside a group of three bytes
                spellings.append((_squeezed(base64.b64encode(raw[shift:]).decode()), part))
        self._spellings = spellings
        self._grams: dict[str, list[tuple[int, int]]] = {}
        for which, (word, _) in enumerate(spellings):
            for place in range(len(word) - _GRAM + 1):
                self._grams.setdefault(word[place : place + _GRAM], []).append((which, place))
        self._step = min((least for _, least in spellings), default=_GRAM) - _GRAM + 1

    def __repr__(self) -> str:
        return f"Secret({MARK})"

    def redact(self, text: str) -> str:
        """Return ``text`` without the key and without any part of it that is long enough to tell.

        Args:
            text: anything.
        """
        if not self._key:
            return text
        text = text.replace(self._key, MARK)
        runs = list(self._runs(_squeezed(text)))
        if not runs:
            return text
        places = [sign.start() for sign in _SIGN.finditer(text)]
        pieces, done = [], 0
        for start, end in runs:
            pieces += [text[done : places[start]], MARK]
            done = places[end - 1] + 1
        return "".join([*pieces, text[done:]])

    def _runs(self, signs: str) -> Iterator[tuple[int, int]]:
        """Yield where parts of the key begin and end, in order. Every part holds a gram at one of the steps."""
        at = done = 0
        while at <= len(signs) - _GRAM:
            runs = [self._around(signs, at, done, *hit) for hit in self._grams.get(signs[at : at + _GRAM], ())]
            start, end = max(filter(None, runs), key=lambda run: run[1] - run[0], default=(0, 0))
            if end:
                yield start, end
                at = done = end
            else:
                at += self._step

    def _around(self, signs: str, at: int, done: int, which: int, place: int) -> tuple[int, int] | None:
        """Return the whole run around one gram, None where it is too short to tell."""
        word, least = self._spellings[which]
        before = after = 0
        while at - before > done and place > before and signs[at - before - 1] == word[place - before - 1]:
            before += 1
        while at + after < len(signs) and place + after < len(word) and signs[at + after] == word[place + after]:
            after += 1
        return (at - before, at + after) if before + after >= least else None


def _squeezed(text: str) -> str:
    return _NOISE.sub("", text).lower()

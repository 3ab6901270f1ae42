"""Text for outputs that cannot hold all of it: ASCII, or the code page of a Windows terminal."""

import codecs
import io
import sys
import unicodedata

PLAIN = {
    **{
        "−": "-",
        "–": "-",
        "—": "-",
        "‑": "-",
        "·": "-",
        "×": "x",
        "…": "...",
        "→": "->",
        "←": "<-",
        "≤": "<=",
        "≥": ">=",
    },
    **{"“": "'", "”": "'", "‘": "'", "’": "'", "²": "^2", "±": "+/-", "≈": "~", "√": "sqrt "},
    **{"α": "alpha", "δ": "delta", "Δ": "delta", "λ": "lambda", "τ": "tau", "█": "#", "•": "*", "\xa0": " "},
}
"""Characters of our own texts in ASCII."""

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that steer a terminal or hide in a text: control, format, surrogates, private, line ends."""

_HANDLER = "cao-plain"


def visible(value: object) -> str:
    """Return a text in which nothing can steer a terminal or stay unseen: such characters become their escapes."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in HIDDEN else char for char in str(value)
    )


def plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks: plain ones, else their escapes.

    A text that is JSON gets JSON's escapes and nothing else, so that it says the same.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    json = error.object.lstrip()[:1] in ("{", "[")
    given = error.object[error.start : error.end]
    return "".join(_escaped(char) if json else PLAIN.get(char) or _escaped(char) for char in given), error.end


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def write_any_text() -> None:
    """Let standard output and error take any text, whatever their encoding."""
    codecs.register_error(_HANDLER, plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors=_HANDLER)

r"""Light LaTeX: finding ``\boxed{…}`` and telling whether two short answers are the same."""

import re
from fractions import Fraction
from functools import lru_cache

_SPACING = re.compile(r"(?<!\\)\\[!,;: ]|~|\\q?quad")
_DROPPED = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\^\{?\\circ\}?|\\%|%|\\\$|\$")
_WRAPPED = re.compile(r"\\(?:text|mbox|mathrm|textbf|textit)\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|mathrm)\{[^{}]*\}(?:\^\{?\d\}?)?\s*$")
_BARE = re.compile(r"\\(sqrt|frac)\s*([^{\s\\\[])")
_BARE_SECOND = re.compile(r"(\\frac\{[^{}]*\})\s*([^{\s\\])")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_FRACTION = re.compile(r"(-?)\\frac\{(-?\d+)\}\{(-?\d+)\}|(-?\d+)/(\d+)")
_DECIMAL = re.compile(r"-?(?:\d+\.?\d*|\.\d+)")


def boxed(text: str) -> str | None:
    r"""Return the content of the last ``\boxed{…}`` or ``\fbox{…}`` whose braces balance, or None."""
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*(?:(\{)|([^\s{}$]+))", text))):
        if match.group(2):
            return match.group(2)
        depth = 1
        for position in range(match.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[match.end() : position]
    return None


def normalise_latex(text: str) -> str:
    """Return an answer in one form: no spacing, sizing, units or currency, braced fractions and roots."""
    text = _UNIT.sub("", text.strip().rstrip(".").strip().strip("$").replace("\\$", ""))
    text = _SPACING.sub("", text.replace("{,}", ",").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
    text = _DROPPED.sub("", _WRAPPED.sub(r"\1", text))
    text = _BARE_SECOND.sub(r"\1{\2}", _BARE.sub(r"\\\1{\2}", text))
    text = re.sub(r"^[A-Za-z]\s*(?:=|\\in(?![a-z]))", "", re.sub(r"\s+", "", text))
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def value(text: str) -> Fraction | None:
    """Return the number that a normalised answer is (whole, decimal or plain fraction), or None."""
    if _DECIMAL.fullmatch(text) and len(text) < 100:
        return Fraction(text)
    match = _FRACTION.fullmatch(text)
    if not match or len(text) > 100:
        return None
    sign, top, bottom = (
        match.group(1) or "",
        match.group(2) or match.group(4),
        match.group(3) or match.group(5),
    )
    if int(bottom) == 0:
        return None
    return Fraction(int(top), int(bottom)) * (-1 if sign else 1)


@lru_cache(maxsize=16384)  # each answer is a candidate for hundreds of problems
def key(text: str) -> Fraction | str:
    """Return what two answers share if they are the same: their number, else their normalised form."""
    plain = normalise_latex(text)
    number = value(plain)
    return plain if number is None else number

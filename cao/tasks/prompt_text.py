"""What a prompt's text is to the encoder: what can be seen of it, which prompts are one, what it was not trained on."""

import re
import unicodedata
from collections.abc import Sequence

MOSTLY = 0.5
"""Share of a text's words in another script than Latin, or of a window's such texts, that is not covered."""

_WORD = re.compile(r"\w+|[^\w\s]")
_UNSPACED = re.compile("CJK|HIRAGANA|KATAKANA|HANGUL|THAI|LAO|KHMER|MYANMAR")
_CONTROLS = {code: " " if chr(code).isspace() else None for code in (*range(32), 127)}


def seen(prompt: str) -> str:
    """Return what the encoder's tokenizer sees of a prompt: no letter case, accents, control or format characters."""
    if prompt.isascii():
        return " ".join(prompt.translate(_CONTROLS).lower().split())
    kept = (c for c in unicodedata.normalize("NFD", prompt) if c.isspace() or unicodedata.category(c)[0] not in "MC")
    return " ".join("".join(kept).lower().split())


def letters_and_digits(prompt: str) -> str:
    """Return a prompt's letters and digits, without case: equal for prompts that differ in spaces and signs."""
    return re.sub(r"[\W_]+", "", prompt.casefold())


def distinct(prompts: Sequence[str]) -> list[int]:
    """Return the positions of the prompts that count, in an order that the prompts' own order cannot change.

    Of prompts that the encoder's tokenizer cannot tell apart the first counts. Twenty retries of one question would
    otherwise look like a distribution of its own.

    Args:
        prompts: texts, blank ones among them.

    Returns:
        Positions into ``prompts``, sorted by text.
    """
    first: dict[str, int] = {}
    for position, prompt in enumerate(prompts):
        key = seen(prompt)
        if key:
            first.setdefault(key, position)
    return [first[key] for key in sorted(first)]


def blank(prompts: Sequence[str]) -> int:
    """Return how many prompts hold nothing that can be seen."""
    return sum(not seen(prompt) for prompt in prompts)


def letters_of(prompt: str) -> list[str]:
    """Return the characters of a prompt that are letters of any script."""
    return [character for character in prompt if unicodedata.category(character).startswith("L")]


def is_foreign(prompt: str) -> bool:
    """Return whether the encoder was not trained on most of a prompt: words of other scripts, pictures, signs.

    In scripts without spaces every letter counts as a word. A prompt without a word or a number is foreign too.
    """
    if prompt.isascii():
        return not any(character.isalnum() for character in prompt)
    known = other = 0
    for word in _WORD.findall(unicodedata.normalize("NFC", prompt)):
        names = [unicodedata.name(character, "") for character in word if not character.isascii()]
        strange = [name for name in names if not name.startswith(("LATIN ", "COMBINING "))]
        if word[0].isalnum() and not strange:
            known += 1
        elif strange and not unicodedata.category(word[0]).startswith("P"):
            other += max(1, sum(bool(_UNSPACED.match(name)) for name in strange))
    return known == 0 or other > MOSTLY * (known + other)

"""Which prompts an adapter is generated from, and what there is to say about them.

The encoder was trained on English; what it cannot read well is used all the same and reported, for a task of sums or
in another language has no better prompts.
"""

from collections.abc import Sequence

from cao.errors import InputError
from cao.model.encoder import MAX_TOKENS
from cao.tasks.prompt_text import blank, distinct, is_foreign, letters_of
from cao.types import Record

__all__ = ["PromptReport", "usable_prompts"]


class PromptReport(Record):
    """Which prompts are used.

    Attributes:
        kept: their positions, in the order given; at least one.
        caveats: what was left out or is doubtful, in sentences without their full stop.
    """

    kept: tuple[int, ...]
    caveats: tuple[str, ...] = ()


def usable_prompts(prompts: Sequence[str], tokens: Sequence[int] | None, wanted: int) -> PromptReport:
    """Return the prompts to generate from: neither blank nor repeated, by the rule of drift detection.

    Args:
        prompts: texts of one task.
        tokens: encoder tokens of each prompt before truncation; None leaves length out of the report.
        wanted: N, the prompts that the generator was built for.

    Raises:
        InputError: no prompt is left.

    Source: CAO-LLM §2.2 (N prompts condition the generator); what is left out is this project's.
    """
    assert wanted >= 1, wanted
    assert tokens is None or len(tokens) == len(prompts), "one count for each prompt"
    broken = [_is_broken(prompt) for prompt in prompts]
    readable = ["" if bad else prompt for prompt, bad in zip(prompts, broken, strict=True)]
    kept = sorted(distinct(readable))
    unreadable = sum(broken)
    empty = blank(readable) - unreadable
    left_out = _left_out(len(prompts), unreadable, empty, len(prompts) - unreadable - empty - len(kept))
    if not kept:
        raise InputError("; ".join(["no prompt is left to generate an adapter from", *left_out]))
    return PromptReport(kept=tuple(kept), caveats=(*left_out, *_doubts(prompts, kept, tokens, wanted)))


def _is_broken(prompt: str) -> bool:
    """Return whether half of a character pair stands alone, which no encoder takes as text."""
    return any("\ud800" <= character <= "\udfff" for character in prompt)


def _left_out(total: int, broken: int, empty: int, repeats: int) -> list[str]:
    stated = []
    if broken:
        stated.append(f"{broken} of {total} prompts hold half a character pair, are no valid text and were left out")
    if empty:
        stated.append(f"{empty} of {total} prompts are blank and were left out")
    if repeats:
        stated.append(f"{repeats} of {total} prompts repeat another one and were left out")
    return stated


def _doubts(prompts: Sequence[str], kept: Sequence[int], tokens: Sequence[int] | None, wanted: int) -> list[str]:
    n, stated = len(kept), list[str]()
    if cut := sum(tokens[i] > MAX_TOKENS for i in kept) if tokens else 0:
        stated.append(f"{cut} of {n} prompts are longer than {MAX_TOKENS} tokens; the encoder did not see their end")
    if wordless := sum(not letters_of(prompts[i]) for i in kept):
        stated.append(f"{wordless} of {n} prompts hold no letters; the encoder makes little of them")
    if foreign := sum(is_foreign(prompts[i]) and bool(letters_of(prompts[i])) for i in kept):
        stated.append(f"{foreign} of {n} prompts are mostly in another script; the encoder was trained on English")
    if n < wanted:
        stated.append(f"{n} distinct prompts for the {wanted} that the generator takes; they are used again in turn")
    return stated

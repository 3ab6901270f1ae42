"""How a free-text answer is judged: by form, number, overlap of words, label word, or a user's function.

A grader of overlap says right from a share on, one half by default (``f1:0.8`` asks for more).
"""

import importlib
import os
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Sequence

from cao.errors import InputError
from cao.machine.extras import need
from cao.tasks.base import answer_form
from cao.tasks.numerals import as_number, stated_number
from cao.types import Example

Grader = Callable[[str, Example], bool]
ENOUGH = 0.5
"""Share of overlap, or value of a user's grader, from which on an answer is right."""


def golds(example: Example) -> tuple[str, ...]:
    """Return every text that is right."""
    return (example.gold_text, *example.accepted)


def first_line(text: str) -> str:
    """Return the first line that is not blank."""
    return next((line for line in text.splitlines() if line.strip()), "")


def as_auto(text: str, example: Example) -> bool:
    """Judge by the stated number where the gold answer is one, else by the first line."""
    return any(
        stated_number(text) == number
        if (number := as_number(gold)) is not None
        else answer_form(first_line(text)) == answer_form(gold)
        for gold in golds(example)
    )


def as_exact(text: str, example: Example) -> bool:
    """Judge by form: the whole text or its first line, without case, markup and punctuation."""
    return bool({answer_form(text), answer_form(first_line(text))} & {answer_form(gold) for gold in golds(example)})


def as_stated_number(text: str, example: Example) -> bool:
    """Judge by the number that the text states last, or behind ``####``."""
    return stated_number(text) in [as_number(gold) for gold in golds(example)] and stated_number(text) is not None


def squad_words(text: str) -> list[str]:
    """Return a text's words as SQuAD compares them: lower case, no punctuation, no articles."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def token_f1(text: str, gold: str) -> float:
    """Return the F1 of the words that two texts share, in [0, 1]. Source: SQuAD's evaluation script."""
    said, right = squad_words(text), squad_words(gold)
    if not said or not right:
        return float(said == right)
    shared = sum((Counter(said) & Counter(right)).values())
    return 2 * shared / (len(said) + len(right))


def _rouge_l() -> Callable[[str, str], float]:
    need("rouge")
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  (an extra)

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return lambda text, gold: float(scorer.score(gold, text)["rougeL"].fmeasure)


def _above(measure: Callable[[str, str], float], share: float) -> Grader:
    return lambda text, example: max(measure(text, gold) for gold in golds(example)) >= share


def _by_label(examples: Sequence[Example]) -> Grader:
    """Judge by the label word that a text names first; the labels are the file's answers."""
    labels = {gold.casefold() for example in examples for gold in golds(example)}
    longest_first = sorted(labels, key=lambda label: (-len(label), label))
    named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def judge(text: str, example: Example) -> bool:
        found = named.search(text.casefold())
        return found is not None and found[0] in {gold.casefold() for gold in golds(example)}

    return judge


def _users(spec: str) -> Grader:
    """Return the user's function ``module:function``: (text, right texts, question) → bool, or a share."""
    module, _, name = spec.partition(":")
    sys.path.insert(0, os.getcwd())  # as ``python -m`` has it, for the console script
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001  (a user's module may raise anything)
        raise InputError(f"--grader {spec}: cannot be loaded ({type(error).__name__}: {error})") from None
    finally:
        sys.path.pop(0)
    if not callable(function):
        raise InputError(f"--grader {spec}: is no function")

    def judge(text: str, example: Example) -> bool:
        try:
            return float(function(text, golds(example), example.prompt)) >= ENOUGH
        except Exception as error:  # noqa: BLE001  (as above)
            raise InputError(f"--grader {spec}: failed on an answer ({type(error).__name__}: {error})") from None

    return judge


NAMES = ("auto", "exact", "number", "f1", "rouge", "label")


def build_grader(spec: str, examples: Sequence[Example]) -> Grader:
    """Return how free-text answers are judged.

    Args:
        spec: a name of ``NAMES``, ``f1`` and ``rouge`` perhaps with the share asked for (``f1:0.8``), or
            ``module:function``.
        examples: the questions.

    Raises:
        InputError: there is no such grader, or a gold answer is none that it can judge.
        UnavailableError: its package is not installed.
    """
    name, sign, share = spec.partition(":")
    if name in ("f1", "rouge"):
        try:
            least = float(share) if sign else ENOUGH
        except ValueError:
            least = 0.0
        if not 0 < least <= 1:
            raise InputError(f"--grader {spec}: write the share as a number above 0 and at most 1, such as {name}:0.8")
        return _above(token_f1 if name == "f1" else _rouge_l(), least)
    if (sign and name.isidentifier()) or "." in name:
        return _users(spec)
    if spec == "number":
        odd = next((example for example in examples if as_number(example.gold_text) is None), None)
        if odd:
            raise InputError(f"--grader number: the answer {odd.gold_text[:40]!r} is no number")
    if spec == "label":
        return _by_label(examples)
    known = {"auto": as_auto, "exact": as_exact, "number": as_stated_number}
    if spec not in known:
        raise InputError(f"unknown grader {spec[:60]!r}; known: {', '.join(NAMES)}, or module:function")
    return known[spec]

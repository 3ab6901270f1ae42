"""Making one clean paragraph of what a describer wrote, without a word-for-word piece of any example."""

import re
from collections import Counter

from cao.tasks.base import normalise
from prompts.render import as_data

MAX_CHARACTERS = 1_200
MIN_CHARACTERS = 40
QUOTED_RUN = 7
"""Words in a row shared with an example that count as a quotation."""

MOST_WORDS = 8
"""Recurring words that are named."""

WHOLE_EXAMPLE = 3
"""A shorter example counts as quoted where it stands whole, if it has as many words as this."""

_MARKS = re.compile(r"^\s*(?:[-*#•]+|\d+[.)])\s*")


def clean_paragraph(text: str, pairs: list[tuple[str, str | None]], limit: int = MAX_CHARACTERS) -> tuple[str, int]:
    """Return the usable paragraph in ``text`` and how many sentences were left out as quotations.

    Args:
        text: what the model wrote, anything at all.
        pairs: the examples it saw.
        limit: characters of the paragraph.

    Returns:
        One paragraph of whole sentences, or ``""`` where nothing is left; and the count.
    """
    blocks = [
        block for block in re.split(r"\n\s*\n", text[: 8 * MAX_CHARACTERS]) if len(block.strip()) >= MIN_CHARACTERS
    ]
    if not blocks:
        return "", 0
    lines = [_MARKS.sub("", line).replace("*", "") for line in blocks[0].splitlines()]
    paragraph = as_data(" ".join(lines), 4 * MAX_CHARACTERS)
    sentences = re.findall(r".+?[.!?](?=\s|$)", paragraph)
    examples = [normalise(part).split() for pair in pairs for part in pair if part]
    kept: list[str] = []
    dropped = 0
    for sentence in (s.strip() for s in sentences):
        if quotes(normalise(sentence).split(), examples):
            dropped += 1
        elif sentence not in kept and len(" ".join([*kept, sentence])) <= limit:
            kept.append(sentence)
    result = " ".join(kept)
    return (result if len(result) >= MIN_CHARACTERS else ""), dropped


def quotes(sentence: list[str], examples: list[list[str]]) -> bool:
    """Return whether a sentence repeats seven words in a row of an example, or a shorter example whole.

    Args:
        sentence: its words, normalised.
        examples: the words of each question and answer, normalised.
    """
    for words in examples:
        length = min(QUOTED_RUN, len(words))
        if length < WHOLE_EXAMPLE:
            continue
        runs = {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
        if any(tuple(sentence[i : i + length]) in runs for i in range(len(sentence) - length + 1)):
            return True
    return False


def _recurring(questions: list[str]) -> list[str]:
    """Return the words that stand in most of the questions, in two or more, without those of any English text."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # noqa: PLC0415  (half a second to import)

    words = [set(re.findall(r"[^\W\d_]{4,20}", question.lower())) - ENGLISH_STOP_WORDS for question in questions]
    counts = Counter(word for some in words for word in some)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [word for word, count in ranked[:MOST_WORDS] if count > 1]


def facts(pairs: list[tuple[str, str | None]]) -> str:
    """Return what can be said about a task by counting, without understanding it.

    Args:
        pairs: questions with their answers or None; there may be none at all.
    """
    if not pairs:
        return "Nothing is known about this task: no sample question was available."
    questions = [question for question, _ in pairs]
    n = len(questions)
    words = round(sum(len(question.split()) for question in questions) / n)
    asked = sum(question.rstrip().endswith("?") for question in questions)
    numeric = sum(any(char.isdigit() for char in question) for question in questions)
    said = [
        f"The task consists of short texts to be answered; {n} sampled questions have {words} words on average.",
        f"Of them, {asked} end in a question mark and {numeric} contain numbers.",
    ]
    if recurring := _recurring(questions):
        said.append(f"Words that recur in them: {', '.join(recurring)}.")
    answers = [answer for _, answer in pairs if answer]
    if answers:
        mean = sum(len(answer.split()) for answer in answers) / len(answers)
        numbers = sum(bool(re.fullmatch(r"[-+$]?[\d,]*\.?\d+\s*%?", answer.strip())) for answer in answers)
        said.append(f"The known answers have {mean:.1f} words on average, and {numbers} of {len(answers)} are numbers.")
    return " ".join(said)

"""Self-instruction: from a few of a task's questions the model writes new ones, and poor ones are left out.

It goes on behind a list of questions, with their choices where they have some. What it writes has no label. A question
is left out where it is not whole, too short or too long, speaks of a picture, or nearly repeats another.

Source: Wang et al., Self-Instruct (2022); Fang et al., SeRL (2025) for the filters.
"""

import random
import re
from collections.abc import Callable, Sequence

import torch

from agent.train.generator.own import fingerprint
from cao.configuration import Amount, Count
from cao.inference.sampling import sample
from cao.model.language_model import LanguageModel
from cao.tasks.base import LETTERS, Task, example_id, lettered
from cao.types import Example, Record

WORDS = (4, 150)
"""Words of a question, at least and at most."""

_SEEN = re.compile(r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|figures?)\b", re.IGNORECASE)
_CHOICE = re.compile(r"^([A-Z])[.)]\s*(.+)$")


class Writing(Record):
    """How questions are written.

    Attributes:
        wanted: new questions of a round.
        shown: questions in a prompt.
        at_once: continuations of one prompt.
        tries: prompts of a round, at most, as a multiple of those that would do if every text were good.
        temperature: of sampling.
        top_p: of sampling.
        max_tokens: of a text.
        alike: ROUGE-L from which on two questions are one.
    """

    wanted: Count = 2000
    shown: Count = 8
    at_once: Count = 4
    tries: Count = 4
    temperature: Amount = 1.0
    top_p: Amount = 1.0
    max_tokens: Count = 256
    alike: Amount = 0.7


def listed(examples: Sequence[Example]) -> str:
    """Return questions as a list that the model goes on with."""
    texts = [lettered(each) if each.choices else f"Question: {each.prompt}\nAnswer:" for each in examples]
    return "\n\n".join([*(text.removesuffix("\nAnswer:") for text in texts), "Question:"])


def parsed(text: str, choices: int) -> Example | None:
    """Return the first question of a written text, None where it is not whole.

    Args:
        text: what stands behind ``Question:``.
        choices: how many choices a question of this task has; 0 for none.
    """
    whole = text.split("\nQuestion:")[0].split("\nAnswer:")[0].strip()
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    marked = [match for match in map(_CHOICE.match, lines) if match]
    asked = " ".join(line for line in lines if not _CHOICE.match(line))
    options = tuple(match.group(2) for match in marked)
    letters = "".join(match.group(1) for match in marked)
    if letters != LETTERS[:choices] or len(set(options)) < choices or not _sound(asked):
        return None
    return Example(id=example_id(f"{asked} {' '.join(options)}"), question=asked, choices=options, labelled=False)


def _sound(question: str) -> bool:
    words = len(question.split())
    starts = question[:1].isascii() and question[:1].isalnum()
    return WORDS[0] <= words <= WORDS[1] and starts and not _SEEN.search(question)


def rouge_l(first: str, second: str) -> float:
    """Return the F-measure of the longest common subsequence of two texts' words, in [0, 1]."""
    a, b = (re.findall(r"[a-z0-9]+", text.lower()) for text in (first, second))
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for place, other in enumerate(b, 1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return 2 * row[-1] / (len(a) + len(b))


def write_questions(
    lm: LanguageModel, seeds: Sequence[Example], writing: Writing, seed: str, enough: Callable[[], bool] = bool
) -> list[Example]:
    """Return new questions of a task, no label among them; fewer than wanted where the model writes too few good ones.

    Args:
        lm: the model, with an adapter or without.
        seeds: questions of the task; their labels are not read.
        writing: how many, and how.
        seed: of every draw.
        enough: says before each prompt whether nothing more is to be written.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(random.Random(seed).getrandbits(62))
    count, known, made = len(seeds[0].choices), [each.question for each in seeds], list[Example]()
    for _ in range(writing.tries * -(-writing.wanted // writing.at_once)):
        if enough():
            break
        shown = rng.sample(list(seeds), min(writing.shown, len(seeds)))
        texts = sample(
            lm,
            listed(shown),
            writing.at_once,
            temperature=writing.temperature,
            top_k=0,
            top_p=writing.top_p,
            max_tokens=writing.max_tokens,
            generator=generator,
        )
        for example in (parsed(text, count) for text in texts):
            if example and all(rouge_l(example.question, other) < writing.alike for other in known):
                known.append(example.question)
                made.append(example)
        if len(made) >= writing.wanted:
            break
    return made[: writing.wanted]


def unasked(written: Sequence[Example], task: Task) -> list[Example]:
    """Return the questions that are none of the task's own, in letters and digits.

    A model may know a published test part by heart; what it repeats of it is left out.
    """
    known = {fingerprint(example) for example in task.load()}
    return [example for example in written if fingerprint(example) not in known]

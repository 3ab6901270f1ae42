"""What a task is: examples, the way they are asked, and the way answers are graded."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cao.files import sha256_bytes
from cao.reading import FileReading
from cao.types import AnswerProtocol, AnswerStyle, Branch, Example, Query

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SYSTEM = "system"
"""The role of a chat's messages that say how to answer."""


_SAME_SIGN = {"<compat>", "<wide>", "<narrow>", "<noBreak>", "<initial>", "<medial>", "<final>", "<isolated>"}
"""Unicode's kinds of compatibility whose signs read the same; a superscript, a fraction or a bold letter does not."""

_SIGNS = "%#&@*/\\"
"""Punctuation, as Unicode has it, that makes another answer of one: C#, 5 %, a/b."""


def normalise(text: str) -> str:
    """Return ``text`` without case, punctuation and repeated space: near-duplicates have one such form.

    Questions that differ may share it (10² and 102, a + b and a - b), so it groups them and tells none apart.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = re.sub(r"[^\w]+", " ", plain).strip()
    return words or " ".join(plain.split())  # all punctuation: keep it, or such questions would all be one


def as_read(text: str) -> str:
    """Return ``text`` with one way to write what reads the same: ligatures, wide letters, composed accents, spaces.

    Case, signs, superscripts and the like stay, because they make another text of it.
    """
    plain = (
        unicodedata.normalize("NFKC", c) if unicodedata.decomposition(c).split(" ")[0] in _SAME_SIGN else c
        for c in text
    )
    return " ".join(unicodedata.normalize("NFC", "".join(plain)).split())


def answer_form(text: str) -> str:
    """Return a short answer as it is compared: without case, spacing, markup and punctuation, but with its signs."""
    plain = as_read(text).casefold().replace("−", "-").strip(" *`_$") or text
    hyphens = re.sub(r"(?<=\w)-(?=\w)|(?<!\S)[-–—](?!\S)", " ", plain)
    kept = "".join(c if c in _SIGNS + "-" or unicodedata.category(c)[0] in "LMNSZ" else " " for c in hyphens)
    return " ".join(kept.split()) or plain


def example_id(text: str) -> str:
    """Return the stable id of an example: a hash of its normalised text."""
    return sha256_bytes(normalise(text).encode())[:16]


def read_id(*texts: str) -> str:
    """Return the stable id of texts as a reader tells them apart."""
    return sha256_bytes("\x1f".join(map(as_read, texts)).encode())[:16]


def exact_id(*texts: str) -> str:
    """Return the stable id of a built-in question: its punctuation matters, its spacing and superscripts do not.

    The ids decide which questions a seed draws, so they stay; no two questions of a built-in task share one.
    """
    return sha256_bytes("\x1f".join(" ".join(unicodedata.normalize("NFKC", t).split()) for t in texts).encode())[:16]


def choice_example(
    question: str, choices: Sequence[str], answer: int, *, context: str = "", group: str = ""
) -> Example:
    """Return an example with choices; its id covers them, because sources repeat a question with new ones.

    Args:
        question: the question, stripped here.
        choices: the candidate answers, stripped here.
        answer: index of the gold answer.
        context: the passage it is about.
        group: what goes to one part; by default the normalised context and question.
    """
    question, context = question.strip(), context.strip()
    stripped = tuple(choice.strip() for choice in choices)
    return Example(
        id=exact_id(context, question, *stripped),
        question=question,
        choices=stripped,
        answer=answer,
        gold_text=stripped[answer],
        context=context,
        group=group or example_id(f"{context} {question}"),
    )


def plain(prompt: str) -> str:
    """Return a question as it is asked without listing choices."""
    return f"Question: {prompt}\nAnswer:"


def text_query(example: Example) -> Query:
    """Ask plainly and score the texts of the answers."""
    branches = tuple(Branch(scored=f" {choice}") for choice in example.choices)
    return Query(prefix=plain(example.prompt), branches=branches)


def turn_text(role: str, text: str) -> str:
    """Return a turn of a chat as a prompt without a template has it."""
    return text if role == SYSTEM else f"{role}: {text}"


def encoder_text(example: Example) -> str:
    """Return what the frozen encoder sees of a question: its prompt, without a chat's system messages.

    They stand before every question of a service alike, and may be longer than what the encoder reads.
    """
    said = [turn_text(role, text) for role, text in example.turns if role != SYSTEM]
    return "\n".join([*said, example.question]) if example.turns else example.prompt


def lettered(example: Example) -> str:
    """Return the question with its choices listed by letter."""
    listed = "\n".join(f"{LETTERS[i]}. {choice}" for i, choice in enumerate(example.choices))
    return f"Question: {example.prompt}\n{listed}\nAnswer:"


def letter_query(example: Example) -> Query:
    """List the choices by letter and score the letters."""
    branches = tuple(Branch(scored=f" {LETTERS[i]}") for i in range(len(example.choices)))
    return Query(prefix=lettered(example), branches=branches)


_CLOSED = r"(?=[).:,;]|\s*$|\s+(?:is|because|since)\b)"
"""What may follow a letter that stands for a choice; without it "A dog" would name the choice A."""


def _letter_patterns(letters: str) -> tuple[str, ...]:
    small = letters.lower()
    return (
        rf"^\(?([{letters}{small}])[).:]*$",  # the letter alone: B, (b), B.
        r"(?i:answer|option|choice)(?i:\s+is|\s+would\s+be)?[\s:=*(\[]*"
        rf"\b(?:([{letters}])\b(?!['’])|([{small}])[).\]])",  # Answer: B, the answer is (b)
        rf"^[*(\[]*(?:([{letters}])[.:)\]*]+(?:\s|$)|([{small}])\)\s)",  # as the list writes it: B. the bird
        rf"^([{letters}]){_CLOSED}",  # B is correct
        rf"\b(?i:is|be|it['’]s|choose|pick|select)\s*:?\s*[*(]*([{letters}]){_CLOSED}",  # I think it is B
        rf"\(([{letters}])\)",
    )


def parse_letter(text: str, example: Example) -> int:
    """Return the index of the choice that a generated text names, or -1.

    The first line that is not blank is read. A letter alone counts, then the text of exactly one choice, then
    a letter in a phrase that gives an answer ("Answer: B", "(B)", "B. the bird", "I think it is B"), in that
    order; an article ("A dog", "the answer is a dog") does not.

    Args:
        text: what the model wrote.
        example: the question; its choices bound the letters.
    """
    letters = LETTERS[: len(example.choices)]
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    alone, *phrases = _letter_patterns(letters)
    if match := re.search(alone, first):
        return letters.index(match.group(1).upper())
    for same in (str.strip, answer_form):  # exactly first: formulas may differ by nothing but their signs
        equal = [i for i, choice in enumerate(example.choices) if same(choice) == same(first)]
        if len(equal) == 1:
            return equal[0]
    for phrase in phrases:
        if match := re.search(phrase, first):
            return letters.index(next(group for group in match.groups() if group).upper())
    return -1


def grade_letter(text: str, example: Example) -> bool:
    """Judge a generated text by the letter, or the choice, that it names."""
    return parse_letter(text, example) == example.answer


@dataclass(frozen=True)
class Task:
    """A named source of examples.

    Attributes:
        name: what ``--task`` takes.
        title: for people.
        source: where the examples come from, in one line, with the licence.
        hub: the data set that the hub is asked for, empty where the examples are here.
        load: returns every example; raises UnavailableError where the source is not at hand.
        likelihood: how choices are asked under the likelihood protocol with answer texts.
        ask: the prompt of the generate protocol.
        grade: whether a generated text is right.
        states: whether a generated text states a value, where the prompt shows no choices.
        gold: the gold answer as a model would write it under the generate protocol.
        max_new_tokens: the budget of one generated answer.
        stop: texts that end a generated answer.
        description: our own paragraph about the task (τ), empty for a user's file.
        has_train: whether a fixed share is set aside for training; small sources and a user's file have none.
        reading: how a user's file was read, None for a built-in task.
        labelled: whether the right answers are known; without them nothing can be measured.
    """

    name: str
    title: str
    source: str
    load: Callable[[], list[Example]]
    likelihood: Callable[[Example], Query] = text_query
    ask: Callable[[Example], str] = lettered
    grade: Callable[[str, Example], bool] = grade_letter
    states: Callable[[str], bool] = lambda text: bool(text.strip())
    gold: Callable[[Example], str] = field(default=lambda example: LETTERS[example.answer])
    max_new_tokens: int = 16
    stop: tuple[str, ...] = ("\nQuestion:", "\n\n")
    description: str = ""
    has_train: bool = True
    reading: FileReading | None = None
    labelled: bool = True
    hub: str = ""

    def query(self, example: Example, style: AnswerStyle) -> Query:
        """Return the likelihood question in the style that the model's profile asks for."""
        return self.likelihood(example) if style == "text" else letter_query(example)

    def asked(self, example: Example, style: AnswerStyle) -> str:
        """Return what stands before the answer, without choices too."""
        return self.query(example, style).prefix if example.choices else plain(example.prompt)

    def guessing(self, example: Example, protocol: AnswerProtocol) -> float:
        """Return the accuracy of drawing lots among the choices; 0 without any, and where a writer is shown none."""
        among = example.choices if protocol == "likelihood" or self.shows_choices(example) else ()
        return 1 / len(among) if among else 0.0

    def shows_choices(self, example: Example) -> bool:
        """Return whether the prompt of a written answer shows the choices; a question may have none."""
        prompt = self.ask(example)
        return bool(example.choices) and all(choice in prompt for choice in example.choices)

    def neutral(self, style: AnswerStyle, question: str) -> str:
        """Return what stands before a choice where ``question`` asks nothing; letters then stand for no choice."""
        if style == "letter":
            return plain(question)
        nothing = Example(id="neutral", question=question, choices=("-",), answer=0)
        return self.likelihood(nothing).prefix

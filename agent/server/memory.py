"""Answers that were given lately, so that feedback on them says something."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

REMEMBERED = 20_000
"""Answers, of each of which feedback can speak; the oldest are forgotten."""
MOST_CHARS = 20_000
"""Of a question that is remembered: a longer one is of no use to a run."""


@dataclass(frozen=True)
class Answered:
    """A question, and what was answered.

    Attributes:
        id: of the response.
        model, run: that answered, and the run that adopted it.
        auto: whether it was asked as whichever model is current.
        tasks: that prompts were expected from then.
        question: the prompt, or the user's last message.
        context: a passage that it is about, and a chat's turns before it.
        choices: that were given.
        text: the answer, None until it is there.
        choice: index of the chosen one, None where there were none.
    """

    id: str
    model: str
    auto: bool
    tasks: tuple[str, ...]
    question: str
    context: str = ""
    choices: tuple[str, ...] = ()
    text: str | None = None
    choice: int | None = None
    run: str = ""


@dataclass
class Memory:
    """The latest answers; one thread changes it, others may read."""

    _kept: "OrderedDict[str, Answered]" = field(default_factory=OrderedDict, repr=False)

    def ask(self, asked: Answered) -> None:
        """Remember a question."""
        if len(asked.question) + len(asked.context) + sum(map(len, asked.choices)) > MOST_CHARS:
            return
        self._kept[asked.id] = asked
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)

    def answer(self, key: str, text: str, choice: int | None) -> None:
        """Remember what was answered."""
        if key in self._kept:
            self._kept[key] = replace(self._kept[key], text=text[:MOST_CHARS], choice=choice)

    def get(self, key: str) -> Answered | None:
        """Return what is remembered of a response."""
        return self._kept.get(key)

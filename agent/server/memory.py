"""Answers that were given lately, so that feedback on them says something."""

from collections import OrderedDict
from dataclasses import dataclass, field, replace

REMEMBERED = 20_000
"""Answers, of each of which feedback can speak; the oldest are forgotten."""
TOGETHER = 50_000_000
"""Characters of them all, at most."""
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

    @property
    def chars(self) -> int:
        """Characters of what is remembered."""
        return len(self.question) + len(self.context) + sum(map(len, self.choices)) + len(self.text or "")


@dataclass
class Memory:
    """The latest answers; one thread changes it, others may read."""

    _kept: "OrderedDict[str, Answered]" = field(default_factory=OrderedDict, repr=False)
    _chars: int = 0

    def ask(self, asked: Answered) -> None:
        """Remember a question."""
        if asked.chars > MOST_CHARS:
            return
        self._put(asked)
        while len(self._kept) > REMEMBERED or self._chars > TOGETHER:
            self._chars -= self._kept.popitem(last=False)[1].chars

    def answer(self, key: str, text: str, choice: int | None) -> None:
        """Remember what was answered."""
        if key in self._kept:
            self._put(replace(self._kept[key], text=text[:MOST_CHARS], choice=choice))

    def _put(self, one: Answered) -> None:
        before = self._kept.get(one.id)
        self._chars += one.chars - (before.chars if before else 0)
        self._kept[one.id] = one

    def get(self, key: str) -> Answered | None:
        """Return what is remembered of a response."""
        return self._kept.get(key)

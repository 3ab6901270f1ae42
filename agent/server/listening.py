"""What becomes of questions and answers besides being served: they are remembered, and watched where that was asked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.server.memory import Answered, Memory
from agent.server.roster import Roster, Served

SEEN_CHARS = 8000
"""Of a prompt that is watched: the encoder reads no more."""


class Watch(Protocol):
    """Takes prompts as a watched stream has them."""

    def put(self, line: bytes) -> None:
        """Take a line."""


class Question(Protocol):
    """What is read of a request."""

    @property
    def asked(self) -> tuple[str, str]:
        """The question and its context."""

    @property
    def choices(self) -> Sequence[str] | None:
        """Of which one is the answer."""


@dataclass
class Listener:
    """Is told questions and answers; of use to the thread that serves requests.

    Attributes:
        roster: which tasks are expected.
        watch: takes the prompts that were put to whichever model is current, None where nothing is watched.
        memory: the latest answers, None where no feedback is taken.
    """

    roster: Roster
    watch: Watch | None = None
    memory: Memory | None = None

    def asked(self, key: str, request: Question, served: Served, *, auto: bool) -> None:
        """Take a question.

        Args:
            key: id of the response.
            request: the question; of several prompts the first counts.
            served: who answers.
            auto: whether it was put to whichever model is current.
        """
        (question, context), choices = request.asked, tuple(request.choices or ())
        tasks = self.roster.tasks if auto else ()
        if self.memory is not None:
            self.memory.ask(Answered(key, served.name, auto, tasks, question, context, choices, run=served.run_id))
        if auto and self.watch is not None:
            line: dict[str, object] = {"prompt": question[:SEEN_CHARS], "id": key}
            line |= {"context": context[:SEEN_CHARS]} if context else {}
            line |= {"choices": [choice[:SEEN_CHARS] for choice in choices]} if choices else {}
            self.watch.put(f"{json.dumps(line, ensure_ascii=False)}\n".encode())

    def answered(self, key: str, text: str, choice: int | None) -> None:
        """Take an answer."""
        if self.memory is not None:
            self.memory.answer(key, text, choice)

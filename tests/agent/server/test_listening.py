"""What the detector and a run are given of a served chat is what they would read of the same chat in a file."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.server.adaptation.labels import label_of
from agent.server.adaptation.questions import lines, of_one_kind, window_rows
from agent.server.listening import Listener
from agent.server.memory import Memory
from agent.server.roster import Roster, Served
from agent.server.wire import ChatRequest, Feedback
from agent.stream.source import prompt_of
from cao.tasks.base import encoder_text
from cao.tasks.files import read_examples
from cao.tasks.prompt_file import read_prompts
from cao.types import Example

SYSTEM = {"role": "system", "content": "Answer with a year."}
FAUST = [{"role": "user", "content": "Who wrote Faust?"}, {"role": "assistant", "content": "Goethe."}]
HAMLET = [{"role": "user", "content": "Who wrote Hamlet?"}, {"role": "assistant", "content": "Shakespeare."}]
WHEN = {"role": "user", "content": "And when?"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "when?"}]}
BLANK = {"role": "assistant", "content": None}


class Line(list[bytes]):
    """A watch that keeps what it takes."""

    put = list.append


def heard(messages: list[dict[str, Any]], **more: Any) -> tuple[Listener, Line]:
    watch = Line()
    listener = Listener(Roster(Served("base")), watch, Memory())
    asked = ChatRequest.model_validate_json(json.dumps({"model": "auto", "messages": messages, **more}))
    listener.asked("k", asked, Served("base"), auto=True)
    listener.answered("k", "1808", None)
    return listener, watch


@pytest.mark.parametrize(
    "messages",
    [
        [WHEN],
        [SYSTEM, WHEN],
        [*FAUST, WHEN],
        [SYSTEM, *FAUST, BLANK, PARTS],
        [{"role": "developer", "content": "Be brief."}, *HAMLET, *FAUST, WHEN],
    ],
)
def test_a_chat_is_heard_as_a_file_has_it(tmp_path: Path, messages: list[dict[str, Any]]) -> None:
    def read(chat: list[dict[str, Any]]) -> Example:
        (tmp_path / "chats.jsonl").write_text(lines([{"messages": chat, "answer": "1808"}]))
        return read_examples(tmp_path / "chats.jsonl")[0][0]

    without = [message for message in messages if message["role"] not in ("system", "developer")]
    bare, example = read(without), read(messages)
    assert [one.prompt for one in read_prompts(tmp_path / "chats.jsonl")] == [bare.prompt]  # so a reference has it
    assert encoder_text(example) == bare.prompt
    listener, watch = heard(messages)
    assert prompt_of(watch[0].strip()) == (bare.prompt, None)
    assert listener.memory is not None
    asked = listener.memory.get("k")
    assert asked is not None
    (tmp_path / "window").write_bytes(watch[0])
    fed, shown = label_of(Feedback(id="k", answer="1808"), asked).row(), window_rows(tmp_path / "window")["k"]
    for row in (fed, {**shown, "answer": "1808"}):
        (tmp_path / "run.jsonl").write_text(lines([row]))
        assert read_examples(tmp_path / "run.jsonl")[0] == [bare.model_copy(update={"turns": ()})]


def test_a_context_that_is_given_stands_before_the_turns() -> None:
    listener, _ = heard([*FAUST, WHEN], context="On books.")
    assert listener.memory is not None
    asked = listener.memory.get("k")
    assert asked is not None
    assert asked.context == "On books.\n\nuser: Who wrote Faust?\nassistant: Goethe."


def test_conversations_that_end_alike_are_different_questions() -> None:
    rows = []
    for turns, year in ((FAUST, "1808"), (HAMLET, "1603")):
        memory = heard([*turns, WHEN])[0].memory
        assert memory is not None
        asked = memory.get("k")
        assert asked is not None
        rows.append(label_of(Feedback(id="k", answer=year), asked).row())
    assert [row["answer"] for row in of_one_kind(rows)] == ["1808", "1603"]

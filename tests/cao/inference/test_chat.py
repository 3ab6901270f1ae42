"""Questions asked by a model's chat template."""

import json
from pathlib import Path

from cao.inference.chat import by_chat, chat_prompt
from cao.model.language_model import LanguageModel
from cao.tasks import get_task
from cao.tasks.base import Task, plain
from cao.types import Example

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who flies?"},
    {"role": "assistant", "content": "The bird."},
    {"role": "user", "content": "How high?"},
]
FREE = Example(id="x", question="How high <|endoftext|> flies it?", gold_text="high")


def test_a_chat_model_is_asked_in_its_template_and_ends_its_turn_itself(tiny_lm: LanguageModel) -> None:
    task = Task("t", "t", "t", lambda: [FREE], ask=lambda e: plain(e.prompt), stop=("\n\n",), max_new_tokens=16)
    asked = by_chat(task, tiny_lm)
    text = asked.ask(FREE)
    assert text.startswith("<|im_start|>user\n")
    assert text.rstrip().endswith("<|im_start|>assistant")
    assert "<|endoftext|>" not in text  # a control token of the question's is taken apart
    assert (asked.stop, asked.max_new_tokens) == ((), 64)
    tiny_lm.tokenizer.chat_template = None
    assert by_chat(task, tiny_lm).ask(FREE) == "Question: How high <|endoftext|> flies it?\nAnswer:"


def test_the_turns_before_a_question_are_turns_of_the_template(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": CHAT, "answer": f"high {n}", "n": n}) + "\n" for n in (1,)))
    (example,) = get_task(str(path)).load()
    task = Task("t", "t", "t", lambda: [example], ask=lambda e: plain(e.prompt))
    assert by_chat(task, tiny_lm).ask(example) == chat_prompt(tiny_lm, CHAT)
    assert example.prompt == "Be brief.\nuser: Who flies?\nassistant: The bird.\nHow high?"
    tiny_lm.tokenizer.chat_template = None
    assert by_chat(task, tiny_lm).ask(example) == plain(example.prompt)


def test_choices_are_listed_in_the_last_turn_of_a_chat(tiny_lm: LanguageModel) -> None:
    turns = (("user", "Who flies?"), ("assistant", "The bird."))
    example = Example(
        id="x", question="Sure?", choices=("yes", "no"), answer=0, context="user: Who flies?\nassistant: …", turns=turns
    )
    task = Task("t", "t", "t", lambda: [example], ask=lambda e: plain(e.prompt))
    last = {"role": "user", "content": "Question: Sure?\nA. yes\nB. no\nAnswer:"}
    before = [{"role": role, "content": text} for role, text in turns]
    assert by_chat(task, tiny_lm).ask(example) == chat_prompt(tiny_lm, [*before, last])


def test_a_template_without_a_system_role_keeps_the_turns(tiny_lm: LanguageModel) -> None:
    shown = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}"
    tiny_lm.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + shown
    )
    assert chat_prompt(tiny_lm, CHAT) == "<user>Be brief.\n\nWho flies?<assistant>The bird.<user>How high?"
    tiny_lm.tokenizer.chat_template = (
        "{% if messages|length > 1 %}{{ raise_exception('one turn alone') }}{% endif %}" + shown
    )
    assert chat_prompt(tiny_lm, CHAT) == "<user>Be brief.\n\nWho flies?\n\nThe bird.\n\nHow high?"

"""Questions asked by a model's chat template."""

from cao.inference.chat import by_chat
from cao.model.language_model import LanguageModel
from cao.tasks.base import Task, plain
from cao.types import Example

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

"""Questions as a chat model is asked them: in its own template, turn by turn, and answered until it ends its turn."""

from dataclasses import replace

from cao.inference.sampling import chat_text
from cao.model.language_model import LanguageModel
from cao.tasks.base import Task, lettered
from cao.types import Example, Message

LEAST_TOKENS = 64
"""Budget of one answer at least: a chat model answers in a sentence."""


def chat_prompt(lm: LanguageModel, messages: list[Message]) -> str:
    """Return a chat in the model's template, as the text that is encoded with its opening token.

    Args:
        lm: whose template.
        messages: of which control tokens are taken apart.
    """
    text, begin = chat_text(lm, messages), lm.tokenizer.bos_token
    twice = begin and text.startswith(begin) and len(lm.encode("")) > 0  # encoding adds it, too
    return text.removeprefix(begin) if twice else text


def by_chat(task: Task, lm: LanguageModel) -> Task:
    """Return a task whose written answers are asked for by the model's chat template.

    Args:
        task: what is asked, and how its answers are graded.
        lm: whose template; a model without one is asked as before.
    """
    if not lm.tokenizer.chat_template:
        return task

    def ask(example: Example) -> str:
        last = example.model_copy(update={"context": ""}) if example.turns else example
        content = lettered(last) if last.choices else last.prompt
        before: list[Message] = [{"role": role, "content": text} for role, text in example.turns]
        return chat_prompt(lm, [*before, {"role": "user", "content": content}])

    return replace(task, ask=ask, stop=(), max_new_tokens=max(LEAST_TOKENS, task.max_new_tokens))

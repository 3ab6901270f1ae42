"""The recipe of a LoRA training as a policy writes it, and which recipes it is fine-tuned on."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from agent.train.policy.fine_tune import Lesson
from cao.inference.sampling import chat_text
from cao.model.language_model import LanguageModel
from cao.types import Record

CHOICES: dict[str, tuple[float, ...] | tuple[int, ...]] = {
    "learning_rate": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    "epochs": (1, 2, 4, 8),
    "batch": (1, 2, 4, 8),
}
"""Key of a recipe → what it may be."""

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {key: {"enum": list(values)} for key, values in CHOICES.items()},
    "required": list(CHOICES),
    "additionalProperties": False,
}

SYSTEM = "You decide how a small adapter of a language model is trained on a few examples of a task."
SHOWN = 3
"""Questions that the policy is shown."""


class TrainingRecipe(Record):
    """How LoRA is trained on a few labelled questions.

    Attributes:
        learning_rate: of AdamW.
        epochs: passes over the questions.
        batch: questions a step.
    """

    learning_rate: float
    epochs: int
    batch: int


def parse(text: str) -> TrainingRecipe | None:
    """Return the recipe of a text, None where it is none: not the JSON object, or a value that is not offered."""
    try:
        found = TrainingRecipe.model_validate_json(text, strict=True)
    except ValidationError:
        return None
    offered = all(getattr(found, key) in values for key, values in CHOICES.items())
    return found if offered else None


def asking(lm: LanguageModel, questions: Sequence[str]) -> str:
    """Return the prompt that asks for a task's recipe.

    Args:
        lm: the policy's model.
        questions: prompts of the task.
    """
    shown = "\n\n".join(questions[:SHOWN])
    offered = "; ".join(f"{key}: {', '.join(f'{value:g}' for value in values)}" for key, values in CHOICES.items())
    user = f"Questions of the task:\n\n{shown}\n\nAnswer with one JSON object. Its keys and values: {offered}"
    return chat_text(lm, [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}])


@dataclass(frozen=True)
class Tried:
    """A recipe that was tried.

    Attributes:
        prompt: that it answered.
        text: as the policy wrote it.
        helped: whether the adapter that it made lowered the loss of questions that it was not trained on.
    """

    prompt: str
    text: str
    helped: bool


def winners(tried: Sequence[Tried]) -> list[Lesson]:
    """Return what the policy is fine-tuned on: each prompt with the recipes that helped, each once, and no others."""
    kept: dict[str, dict[str, None]] = {}
    for one in tried:
        if one.helped:
            kept.setdefault(one.prompt, {})[one.text] = None
    return [Lesson(prompt, list(texts)) for prompt, texts in kept.items()]

"""Two toy tasks for the tiny random model: enough to train on in seconds."""

import torch
from torch import Tensor

from cao.inference.answer_loss import answer_rows
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.tasks.base import Task, choice_example
from cao.types import Example
from tools.align_lora.presets import AlignerPreset
from tools.generate_lora.tokens import TokenLayout

TINY_ALIGNER = AlignerPreset(
    widths=(2, 4),
    latent=4,
    projected=8,
    code=4,
    meta_epochs=20,
    inner_rate=1e-3,
    meta_rate=1e-3,
    kl=0.005,
    chunks_per_step=2,
    vector_prompts=4,
)

ANIMALS = ("bird", "fish", "old grey elephant", "snake", "bee")
NUMBERS = ("one", "two", "three hundred", "four")


def examples(choices: tuple[str, ...], count: int = 12) -> list[Example]:
    asked = "Which of them is it, number"
    return [choice_example(f"{asked} {i}{' of them all' * (i % 4)}?", choices, i % len(choices)) for i in range(count)]


TASKS = {
    name: Task(name, name.title(), "a test", lambda choices=choices: examples(choices))  # type: ignore[misc]
    for name, choices in (("animals", ANIMALS), ("numbers", NUMBERS))
}


def rows_of(lm: LanguageModel, name: str = "animals", limit: int = 64) -> list[Row]:
    return answer_rows(lm, TASKS[name], TASKS[name].load(), limit)


def layout_of(lm: LanguageModel) -> TokenLayout:
    return TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (8, 16))


def plain_loss(lm: LanguageModel, tensors: dict[str, Tensor], rows: list[Row], scale: float) -> Tensor:
    """Each row by itself, without padding, through weights that the adapter is multiplied out into."""
    weights = dict(lm.model.named_parameters())
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        delta = scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
        weights[f"{module}.weight"] = weights[f"{module}.weight"] + delta
    losses = []
    for row in rows:
        ids = torch.tensor([row.tokens])
        logits = torch.func.functional_call(lm.model, weights, kwargs={"input_ids": ids}).logits[0].log_softmax(-1)
        losses += [-logits[t - 1, row.tokens[t]] for t in range(row.spans[0].scored, row.spans[0].end)]
    return torch.stack(losses).mean()

"""The public trainer's plain loop: transformers.Trainer, a PEFT model, rows padded to the longest of their batch."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from tools.apply_strategy.ttl_loss import sample_weight

IGNORED = -100
"""The label that transformers leaves out of a loss."""


def collate(features: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Pad a batch to its longest row, as the public collators do.

    Args:
        features: ``input_ids`` and ``labels`` of each row.
    """
    length = max(len(feature["input_ids"]) for feature in features)
    ids = torch.zeros(len(features), length, dtype=torch.long)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for i, feature in enumerate(features):
        width = len(feature["input_ids"])
        ids[i, :width], mask[i, :width] = torch.tensor(feature["input_ids"]), 1
        labels[i, :width] = torch.tensor(feature["labels"])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def weighted_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return TTL's loss as a trainer's user would write it: Σ S(x)·CE(x) / B over whole logits.

    Args:
        logits: (B, L, V).
        labels: (B, L), padding ``IGNORED``.
    """
    wanted = labels[:, 1:]
    each = nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
    )
    mean = each.sum(1) / (wanted != IGNORED).sum(1)
    return (sample_weight(mean) * mean).mean()


@contextmanager
def peft_model(lm: LanguageModel, start: LoraWeights) -> Iterator[nn.Module]:
    """Yield the model wrapped by PEFT with the adapter's weights, float32, as PEFT trains them.

    Args:
        lm: the model, undressed; it is undressed again behind the block.
        start: the adapter.
    """
    config = LoraConfig(r=start.rank, lora_alpha=start.alpha, target_modules=list(start.targets), lora_dropout=0.0)
    dressed = get_peft_model(lm.model, config)
    try:
        with torch.no_grad():
            for name, value in live(dressed).items():
                value.copy_(start.tensors[name])
        yield dressed
    finally:
        lm.model = dressed.unload()
        lm.model.requires_grad_(False).eval()


def live(dressed: nn.Module) -> dict[str, Tensor]:
    """Return a PEFT model's LoRA parameters by their names in a file."""
    return {name.replace(".default.", "."): value for name, value in dressed.named_parameters() if ".lora_" in name}


def train(
    dressed: nn.Module,
    rows: Sequence[dict[str, list[int]]],
    *,
    batch: int,
    steps: int,
    rate: float,
    weighted: bool,
    lap: Callable[[], None],
) -> None:
    """Train by ``transformers.Trainer``.

    Args:
        dressed: a PEFT model.
        rows: ``input_ids`` and ``labels``.
        batch: rows a step.
        steps: number of steps.
        rate: AdamW's learning rate, constant.
        weighted: TTL's loss in place of the mean over label tokens.
        lap: called after each step.
    """

    class Lap(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: object, **__: object) -> None:
            lap()

    class Weighted(Trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: object
        ) -> Tensor | tuple[Tensor, object]:
            output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            loss = weighted_loss(output.logits, inputs["labels"])
            return (loss, output) if return_outputs else loss

    device = next(dressed.parameters()).device.type
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=rate,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=next(dressed.parameters()).dtype == torch.bfloat16,
            use_cpu=device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        kind = Weighted if weighted else Trainer
        kind(model=dressed, args=arguments, train_dataset=list(rows), data_collator=collate, callbacks=[Lap()]).train()

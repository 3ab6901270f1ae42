"""Supervised fine-tuning of the local policy on the texts it is to write, by transformers' Trainer.

A row is one prompt with all its texts behind it, each hidden from the others: a prompt of a thousand tokens is read
once and not once for each of twenty replies. The loss is that of the replies' tokens alone.

Source: CAO-LLM §2.4, G.5 (supervised fine-tuning on the kept samples, LoRA).
"""

import contextlib
import io
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from agent.train.policy.settings import Tuning
from cao.errors import InputError
from cao.inference.scoring import context_length
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.packing import as_mask, states_alone
from cao.progress import Progress, silent


@dataclass(frozen=True)
class Lesson:
    """One prompt and the texts that are right behind it.

    Attributes:
        prompt: what the model reads.
        replies: what it is to write.
        weights: how much each reply counts, 1 on average; 1 each where there are none.
        share: how often the lesson is read, beside other lessons' shares.
    """

    prompt: str
    replies: Sequence[str]
    weights: Sequence[float] = ()
    share: float = 1.0


def branch_tensors(
    prompt: Sequence[int], replies: Sequence[Sequence[int]], weights: Sequence[float] = ()
) -> dict[str, Tensor]:
    """Return what the model reads: a prompt with its replies behind it, end to end.

    Args:
        prompt: p token ids.
        replies: token ids of each reply, its end token included.
        weights: of each reply; 1 each where there are none.

    Returns:
        ``input_ids``, ``position_ids`` and ``segments`` (1, T; 0 the prompt, 1… the replies), ``attention_mask``
        (1, 1, T, T) bool, ``predicting`` (1, n) the positions whose next token is a reply's, ``targets`` (1, n)
        those tokens, and ``weights`` (1, n) float32.
    """
    ids, positions, segments = list(prompt), list(range(len(prompt))), [0] * len(prompt)
    predicting, targets, counted = list[int](), list[int](), list[float]()
    for number, reply in enumerate(replies, 1):
        counted += [weights[number - 1] if weights else 1.0] * len(reply)
        predicting += [len(prompt) - 1, *range(len(ids), len(ids) + len(reply) - 1)]
        targets += reply
        positions += range(len(prompt), len(prompt) + len(reply))
        ids += reply
        segments += [number] * len(reply)
    owner = torch.tensor(segments)
    visible = ((owner[:, None] == owner[None, :]) | (owner[None, :] == 0)).tril()
    rows = {"input_ids": ids, "position_ids": positions, "segments": segments}
    rows |= {"predicting": predicting, "targets": targets}
    made = {name: torch.tensor([row]) for name, row in rows.items()}
    return {**made, "weights": torch.tensor([counted]), "attention_mask": visible[None, None]}


def reply_loss(lm: LanguageModel, row: dict[str, Tensor]) -> Tensor:
    """Return the mean cross-entropy of the replies' tokens, each times its reply's weight, nats.

    Args:
        lm: the model as it is dressed.
        row: what ``branch_tensors`` returned.
    """
    read = {name: row[name] for name in ("input_ids", "position_ids", "attention_mask")}
    with lm.mixed_precision():
        if lm.paths.fit(row["input_ids"].shape[1]):
            read["attention_mask"] = as_mask(lm, read["attention_mask"])
            hidden = lm.trunk(**read, use_cache=False).last_hidden_state[0, row["predicting"][0]]
        else:
            hidden = _hidden_alone(lm, row)
        logits = lm.logits(hidden)
    nats = nn.functional.cross_entropy(logits.float(), row["targets"][0], reduction="none")
    return (nats * row["weights"][0]).mean()


def _hidden_alone(lm: LanguageModel, row: dict[str, Tensor]) -> Tensor:
    """Return the states that predict the replies' tokens, (n, d), each reply read behind the prompt by itself."""
    ids, segments = row["input_ids"][0], row["segments"][0]
    prompt = int((segments == 0).sum())
    texts = [ids[(segments == 0) | (segments == reply)].tolist() for reply in range(1, int(segments.max()) + 1)]
    return torch.cat([states[prompt - 1 : -1] for states in states_alone(lm, texts)])


def encode_lesson(lm: LanguageModel, lesson: Lesson) -> dict[str, Tensor]:
    """Return a lesson as tensors, each reply with the token that ends a turn.

    Raises:
        InputError: it is longer than the model's context.
    """
    prompt = lm.encode(lesson.prompt, special=not lm.tokenizer.chat_template)
    end = int(lm.tokenizer.eos_token_id)
    replies = [[*lm.encode(reply, special=False), end] for reply in lesson.replies]
    longest, room = len(prompt) + max(map(len, replies)), context_length(lm)
    if longest > room:
        raise InputError(f"a policy's prompt with its reply has {longest} tokens, the model reads {room}")
    return branch_tensors(prompt, replies, lesson.weights)


def course(lessons: Sequence[Lesson], tuning: Tuning) -> list[int]:
    """Return which lesson each step reads, before they are shuffled: each by its share of all steps, once at least.

    A share as a factor of the loss would say less: a step's gradient is clipped, and AdamW divides by its size.

    Args:
        lessons: one or more.
        tuning: passes, and the fewest steps.
    """
    steps = max(tuning.epochs * len(lessons), tuning.least_steps)
    total = sum(lesson.share for lesson in lessons)
    times = [max(1, math.ceil(steps * lesson.share / total - 1e-9)) for lesson in lessons]
    return [number for number, often in enumerate(times) for _ in range(often)]


def _arguments(tuning: Tuning) -> dict[str, object]:
    """Return the Trainer's settings that are the same on every device."""
    return {
        "per_device_train_batch_size": 1,
        "num_train_epochs": 1,
        "learning_rate": tuning.rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "seed": tuning.seed,
        "data_seed": tuning.seed,
    }


def fine_tune(
    lm: LanguageModel,
    lessons: Sequence[Lesson],
    start: LoraWeights,
    tuning: Tuning,
    *,
    progress: Progress = silent,
    losses: list[float] | None = None,
) -> LoraWeights:
    """Return the policy's adapter after supervised fine-tuning; equal arguments give an equal one.

    Args:
        lm: the base model, undressed.
        lessons: one or more.
        start: the adapter to go on from.
        tuning: epochs, the fewest steps, rate, seed.
        progress: called after each step.
        losses: has each step's loss added, nats.

    Raises:
        InputError: a lesson is too long, or the training diverged.

    Source: CAO-LLM §2.4, G.5.
    """
    rows = [encode_lesson(lm, lesson) for lesson in lessons]
    read = [rows[number] for number in course(lessons, tuning)]

    class Progressing(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, arguments: object, state: TrainerState, *_: object, **__: object) -> None:
            progress("fine-tuning the policy", state.global_step, len(read))

    class Replies(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: object, **__: object) -> Tensor:
            loss = reply_loss(lm, inputs)
            if losses is not None:
                losses.append(round(loss.item(), 6))
            return loss

    with (
        tempfile.TemporaryDirectory() as folder,
        lm.adapted(start, trainable=True) as live,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        trainer = Replies(
            model=lm.model,
            args=TrainingArguments(output_dir=folder, use_cpu=lm.device == "cpu", **_arguments(tuning)),
            train_dataset=read,
            data_collator=lambda batch: batch[0],
            callbacks=[Progressing()],
        )
        trainer.train()
        tensors = {name: value.detach().float().cpu().clone() for name, value in live.items()}
    lm.model.eval()
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise InputError("the policy's fine-tuning diverged (a weight is not finite): lower the rate")
    made = {"made_by": "ReST-EM", "lessons": str(len(rows)), "steps": str(len(read)), "rate": f"{tuning.rate:g}"}
    return replace(start, tensors=tensors, provenance=made)

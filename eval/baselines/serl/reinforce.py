"""Online reinforcement of a LoRA adapter by the public trainer: TRL's RLOO.

The trainer samples, asks for rewards, compares each sample with the others of its prompt, and takes the steps. The
optimiser and the checkpoints are ours: a killed training goes on from safetensors, and each step's draws depend on its
number alone.
"""

import contextlib
import copy
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import TrainerCallback, TrainerControl

from cao.configuration import Amount, Count
from cao.machine.extras import need
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.types import Record

Judge = Callable[[int, Sequence[str]], Sequence[float | None]]
"""(place of the prompt, its n samples) → a reward for each; None takes no part."""


class Reinforcing(Record):
    """How the policy is moved.

    Attributes:
        rate: of AdamW, without weight decay.
        prompts: questions a step.
        samples: answers to each.
        kl: weight of the divergence from the start, taken off the reward.
        temperature: of sampling.
        clip: of the gradient's norm.
    """

    rate: Amount = 5e-7
    prompts: Count = 16
    samples: Count = 16
    kl: Amount = 1e-4
    temperature: Amount = 1.0
    clip: Amount = 1.0


@dataclass(frozen=True)
class Watch:
    """What is called at each step.

    Attributes:
        first: number of the first step, for its seed.
        seed: of every draw.
        after: called after a step; what it returns says whether to go on.
    """

    first: int
    seed: int
    after: Callable[[], bool]


def reinforce(
    lm: LanguageModel,
    dressed: PeftModel,
    start: LoraWeights,
    optimizer: torch.optim.Optimizer,
    prompts: Sequence[str],
    judge: Judge,
    settings: Reinforcing,
    *,
    max_tokens: int,
    watch: Watch,
) -> None:
    """Take a step for every ``settings.prompts`` prompts, in their order.

    Args:
        lm: the model.
        dressed: it with a PEFT adapter, whose parameters are changed.
        start: the adapter that the divergence is taken from.
        optimizer: on the adapter's parameters.
        prompts: texts that are answered; those that fill no step are left out.
        judge: gives rewards.
        settings: rate, samples, weights.
        max_tokens: of an answer.
        watch: is called at each step.

    Raises:
        UnavailableError: the trainer is not installed.
    """
    need("rl")
    from trl import RLOOConfig, RLOOTrainer  # noqa: PLC0415  (an optional extra, seconds to import)

    steps = len(prompts) // settings.prompts
    if not steps:
        return
    for group in optimizer.param_groups:
        group["lr"] = settings.rate
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), _kept_padding(lm):
        arguments = RLOOConfig(**_arguments(lm, settings, steps, max_tokens, watch.seed), output_dir=folder)
        trainer = RLOOTrainer(
            model=dressed,
            args=arguments,
            reward_funcs=_grouped(judge, settings.samples),
            train_dataset=Dataset.from_dict({"prompt": list(prompts), "place": list(range(len(prompts)))}),
            processing_class=copy.deepcopy(lm.tokenizer),
            optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
            callbacks=[_Stepwise(watch)],
        )
        try:
            _set_reference(dressed, start)
            trainer.train()
        finally:
            dressed.delete_adapter("ref")


def _arguments(
    lm: LanguageModel, settings: Reinforcing, steps: int, max_tokens: int, seed: int
) -> dict[str, int | float | bool | str | list[str]]:
    """Return the trainer's configuration; a step's prompts go through the model one after another."""
    return {
        "per_device_train_batch_size": settings.samples,
        "gradient_accumulation_steps": settings.prompts,
        "num_generations": settings.samples,
        "max_completion_length": max_tokens,
        "temperature": settings.temperature,
        "top_k": 0,
        "beta": settings.kl,
        "max_steps": steps,
        "max_grad_norm": settings.clip,
        "shuffle_dataset": False,
        "gradient_checkpointing": False,
        "bf16": lm.model.dtype == torch.bfloat16,
        "use_cpu": torch.device(lm.device).type == "cpu",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": seed,
    }


def _grouped(judge: Judge, samples: int) -> Callable[..., list[float | None]]:
    """Return the trainer's reward function: it gets the samples of several prompts, those of one side by side."""

    def reward(completions: Sequence[str], place: Sequence[int], **_: object) -> list[float | None]:
        found: list[float | None] = []
        for first in range(0, len(completions), samples):
            assert len(set(place[first : first + samples])) == 1, place
            found += judge(place[first], completions[first : first + samples])
        return found

    return reward


def _set_reference(dressed: nn.Module, start: LoraWeights) -> None:
    """Give the trainer's frozen copy of the adapter the start's weights, in the place of those at the round's start."""
    with torch.no_grad():
        for name, parameter in dressed.named_parameters():
            if ".ref." in name:
                parameter.copy_(start.tensors[name.replace(".ref.", ".")])


@contextmanager
def _kept_padding(lm: LanguageModel) -> Iterator[None]:
    """Put back the padding token of the model's configurations, which the trainer sets."""
    configurations = (lm.model.config, lm.model.generation_config)
    before = [configuration.pad_token_id for configuration in configurations]
    try:
        yield
    finally:
        for configuration, token in zip(configurations, before, strict=True):
            configuration.pad_token_id = token


class _Stepwise(TrainerCallback):  # type: ignore[misc]
    """Seeds each step by its number, and stops where it is told to."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.number = watch, watch.first

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Seed the step's draws."""
        torch.manual_seed(self.watch.seed * 1_000_003 + self.number)

    def on_step_end(self, _: object, __: object, control: TrainerControl, **___: object) -> TrainerControl:
        """Tell that a step is done."""
        self.number += 1
        going = self.watch.after()
        control.should_training_stop = control.should_training_stop or not going
        return control

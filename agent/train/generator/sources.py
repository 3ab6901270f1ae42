"""The data of a consolidation: each source's training questions, and the token states of its prompts.

No question of a source is a question of a task that results are reported on: those few that are the same, in letters
and digits, are left out, and a source that shares many is refused.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from agent.train.files import read_json, read_tensors, save_tensors
from agent.train.generator.own import check_enough, chosen, parted, reported_questions
from agent.train.generator.presets import Preset
from cao.errors import InputError
from cao.files import opened_line, sealed_line, sha256_bytes, write_atomic, write_json
from cao.inference.answer_loss import answer_rows
from cao.inference.choice_loss import ChoiceRow, choice_rows
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.types import Example
from tools.generate_lora.tokens import TokenLayout


@dataclass
class Sources:
    """A consolidation's folder and its data.

    Attributes:
        folder: where everything is written.
        preset: sizes and rates.
        seed: of every draw.
        load_lm: loads the base model, when a step needs it.
        load_encoder: loads the encoder, when a step needs it.
        progress: called during long work.
        files: the file of each source that is one of the user's.
    """

    folder: Path
    preset: Preset
    seed: int
    load_lm: Callable[[], LanguageModel]
    load_encoder: Callable[[], Encoder]
    progress: Progress
    files: dict[str, str] = field(default_factory=dict)

    @cached_property
    def lm(self) -> LanguageModel:
        """The base model.

        Raises:
            InputError: it is another one than what this folder was begun with.
        """
        lm, path = self.load_lm(), self.folder / "model.json"
        if not path.exists():
            write_json(path, {"name": lm.profile.name, "sha256": lm.sha256})
        begun = read_json(path, dict[str, str])["sha256"]
        if begun != lm.sha256:
            raise InputError(f"{self.folder} was begun with base model {begun[:12]}, this one is {lm.sha256[:12]}")
        return lm

    def forget_model(self) -> None:
        """Give the base model's memory back; the next step that needs the model loads it again."""
        vars(self).pop("lm", None)
        gc.collect()

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self.load_encoder()

    @cached_property
    def layout(self) -> TokenLayout:
        """The token layout of the adapters that are made."""
        profile = self.lm.profile
        return self.preset.layout(self.lm.lora_shapes(), profile.lora_rank, profile.lora_alpha)

    def seed_for(self, *labels: str) -> int:
        """Return a seed of its own for one purpose."""
        return int(sha256_bytes(":".join((str(self.seed), *labels)).encode())[:8], 16)

    def examples(self, task: str) -> list[Example]:
        """Return a source's training examples, from the snapshot that the first step wrote."""
        path = self.folder / "data" / f"{task}.jsonl"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            given = chosen(self.files.get(task, task), task, self.reported, self.preset.checkpoints.samples)
            write_atomic(path, "".join(sealed_line(example.model_dump_json()) + "\n" for example in given))
        try:
            examples = [
                Example.model_validate_json(opened_line(line))
                for line in path.read_text(encoding="utf-8").split("\n")
                if line
            ]
        except ValueError as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}); delete the folder to start again") from None
        check_enough(task, examples)
        return examples

    def task(self, name: str) -> Task:
        """Return a source's task."""
        return get_task(self.files.get(name, name))

    @cached_property
    def reported(self) -> dict[str, set[str]]:
        """The questions of each task that results are reported on, as ``fingerprint`` gives them."""
        return reported_questions()

    def rows(self, task: str) -> tuple[list[Row], list[Row]]:
        """Return a source's questions with their gold answers: those trained on, and those only measured on."""
        trained, measured = (
            answer_rows(self.lm, self.task(task), part, self.preset.row_tokens) for part in parted(self.examples(task))
        )
        return trained, measured

    def questions(self, task: str, *, held_back: bool = False) -> list[ChoiceRow]:
        """Return a source's questions with all of their choices: those trained on, or those only measured on."""
        chosen = parted(self.examples(task))[held_back]
        return choice_rows(self.lm, self.task(task), chosen, self.preset.row_tokens)

    def states(self, task: str) -> list[Tensor]:
        """Return the token states (l_i, C), float16, of a source's training prompts."""
        path = self.folder / "states" / f"{task}.safetensors"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            prompts = [e.prompt for e in parted(self.examples(task))[0]][: self.preset.prompts_encoded]
            states = []
            for start in range(0, len(prompts), 32):
                hidden, mask = self.encoder.condition(prompts[start : start + 32])
                states += [state[kept].half() for state, kept in zip(hidden, mask, strict=True)]
                self.progress(f"encode {task}", len(states), len(prompts))
            tensors = {"values": torch.cat(states), "lengths": torch.tensor([len(state) for state in states])}
            save_tensors(path, tensors, {"encoder_sha256": self.encoder.sha256})
        values, lengths = read_tensors(path, "values", "lengths")
        return list(torch.split(values, lengths.tolist()))

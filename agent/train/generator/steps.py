"""The steps of consolidation: each makes one file in the run folder and is skipped where that file is there.

data → states → checkpoints and unions → generators → aligners → index. A kill loses the step at work at most, and of
a training no more than the seconds since its last checkpoint. Here are the aligners, which come last.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from agent.train.generator.generators import Generators
from agent.train.generator.own import parted
from agent.train.generator.variants import Variant, folds
from cao.errors import InputError
from cao.files import write_json
from cao.model.adapters import LoraWeights
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.gain_training import AnsweredTask, train_gain_aligner
from tools.align_lora.task_vector import condition, task_vector
from tools.align_lora.training import SourceTask, train_aligner
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.sources import conditioning
from tools.generate_lora.tokens import flatten


class Consolidation(Generators):
    """A consolidation's folder, and the steps that fill it."""

    def aligner(self, variant: Variant) -> Path:
        """Train a variant's aligner and return its file."""
        path = self.folder / "variants" / variant.name / "aligner.safetensors"
        if not path.exists():
            train = self._gain_aligner if self.preset.gains else self._chunk_aligner
            aligner, losses = train(variant, path.with_suffix(".partial"))
            write_json(path.parent / "aligner-losses.json", losses)
            aligner.save(path)
        path.with_suffix(".partial").unlink(missing_ok=True)
        return path

    def _chunk_aligner(self, variant: Variant, partial: Path) -> tuple[TrainedAligner, list[tuple[float, float]]]:
        """Train an aligner on the adapters that the variant's own generator makes for its sources."""
        generator = self.generator(variant).to(self.lm.device)
        return train_aligner(
            [self.pairs(task, generator) for task in variant.sources],
            self.layout,
            generator.initial,
            preset=self.preset.aligner,
            seed=self.seed_for("aligner", variant.name),
            generator_sha256=generator.sha256,
            device=self.lm.device,
            progress=lambda _, done, total: self.progress(f"aligner {variant.name}", done, total),
            checkpoint=partial,
        )

    def _gain_aligner(self, variant: Variant, partial: Path) -> tuple[TrainedAligner, list[tuple[float, float]]]:
        """Train an aligner on adapters for tasks that the generator, a fold's, never saw; it says which fold's."""
        assert self.preset.gains is not None
        generator = self.generator(variant)
        tasks = [self.answered(task, fold) for fold in folds(self.preset) for task in fold.leaves_out]
        aligner, losses = train_gain_aligner(
            tasks,
            self.lm,
            self.layout,
            generator.initial,
            preset=self.preset.gains,
            loss=self.preset.generator,
            shared=generator.origin + generator.to_residual(generator.unconditional()),
            seed=self.seed_for("aligner", variant.name),
            generator_sha256=generator.sha256,
            progress=lambda _, done, total: self.progress(f"aligner {variant.name}", done, total),
            checkpoint=partial,
        )
        used = {fold.name: " ".join(fold.leaves_out) for fold in folds(self.preset)}
        aligner.header = aligner.header.model_copy(update={"provenance": {**aligner.header.provenance, **used}})
        return aligner, losses

    def answered(self, task: str, fold: Variant) -> AnsweredTask:
        """Return what a task gives to the gain aligner: adapters of a fold that never saw it, and its questions.

        Raises:
            InputError: the fold saw the task.
        """
        if task in fold.sources:
            raise InputError(f"{fold.name} was trained on {task}, its adapters for it are not those of a new task")
        preset = self.preset.gains
        assert preset is not None
        generator = self.generator(fold).to(self.lm.device)
        adapters, conditions = [], []
        for k, (weights, prompts) in enumerate(self._generated(task, generator), 1):
            adapters.append(flatten(weights.tensors, self.layout))
            given = condition(self.lm, weights, prompts, preset.vector_prompts, with_base_state=True)
            conditions.append(given)
            self.progress(f"task vectors {task}", k, self.preset.pairs)
        return AnsweredTask(
            name=task,
            adapters=torch.stack(adapters),
            shared=flatten(generator.unconditional().tensors, self.layout),
            conditions=torch.stack(conditions),
            questions=sorted(self.questions(task), key=lambda each: len(each.row.tokens)),
        )

    def pairs(self, task: str, generator: TrainedGenerator) -> SourceTask:
        """Return what one task gives to the aligner: generated adapters of several prompt batches and their vectors."""
        limit, residuals, vectors = self.preset.aligner.vector_prompts, list[Tensor](), list[Tensor]()
        for k, (weights, prompts) in enumerate(self._generated(task, generator), 1):
            residuals.append(generator.to_residual(weights))
            vectors.append(task_vector(self.lm, weights, prompts, limit))
            self.progress(f"task vectors {task}", k, self.preset.pairs)
        checkpoint = self.average(f"checkpoints/{task}") if self.preset.aligner.target == "checkpoint" else None
        return SourceTask(task, torch.stack(residuals), torch.stack(vectors), checkpoint)

    def _generated(self, task: str, generator: TrainedGenerator) -> Iterator[tuple[LoraWeights, list[str]]]:
        """Yield the adapter of each of several prompt batches of a task, and those prompts as the model reads them."""
        examples = parted(self.examples(task))[0][: self.preset.prompts_encoded]
        style, states = self.lm.profile.answer_style, self.states(task)
        prompts = [self.task(task).query(example, style).prefix for example in examples]
        for k in range(self.preset.pairs):
            places = [(k * generator.prompts + i) % len(states) for i in range(generator.prompts)]
            tensor, mask = conditioning([states[i] for i in places], generator.decoder.ladder.shapes[0])
            yield generator.generate(tensor, mask), [prompts[i] for i in places]

"""The steps of consolidation: each makes one file in the run folder and is skipped where that file is there.

data → states → checkpoints and unions → generators → aligners → index. A kill loses the step at work at most, and of
a training no more than the seconds since its last checkpoint.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from agent.train.files import read_header, read_json, read_tensors, save_tensors
from agent.train.generator.presets import Preset
from agent.train.generator.variants import Variant
from cao.errors import InputError
from cao.files import sha256_bytes, sha256_file, write_atomic, write_json
from cao.inference.answer_loss import answer_loss, answer_rows
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.progress import Progress
from cao.tasks import TASKS
from cao.tasks.splits import part
from cao.types import Example
from tools.align_lora.task_vector import task_vector
from tools.align_lora.training import SourceTask, train_aligner
from tools.generate_lora.checkpoints import collect
from tools.generate_lora.generator import Identity, TrainedGenerator, load_generator
from tools.generate_lora.tokens import TokenLayout
from tools.generate_lora.training import Source, conditioning, fit, train_generator

INITIAL_SEED = 0
"""Of the one LoRA initialisation that every checkpoint starts from."""

VALIDATION = 10
"""Every tenth training question is kept from all training and only measured on."""

VALIDATION_ROWS, VALIDATION_PROMPTS = 48, 32
"""Questions of a source that are measured on at most, and training prompts that their adapter is generated from."""


@dataclass
class Consolidation:
    """A consolidation's folder, and what its steps work with.

    Attributes:
        folder: where everything is written.
        preset: sizes and rates.
        seed: of every draw.
        load_lm: loads the base model, when a step needs it.
        load_encoder: loads the encoder, when a step needs it.
        progress: called during long work.
    """

    folder: Path
    preset: Preset
    seed: int
    load_lm: Callable[[], LanguageModel]
    load_encoder: Callable[[], Encoder]
    progress: Progress

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

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self.load_encoder()

    @cached_property
    def layout(self) -> TokenLayout:
        """The base model's token layout."""
        profile = self.lm.profile
        return self.preset.layout(self.lm.lora_shapes(), profile.lora_rank, profile.lora_alpha)

    def seed_for(self, *labels: str) -> int:
        """Return a seed of its own for one purpose."""
        return int(sha256_bytes(":".join((str(self.seed), *labels)).encode())[:8], 16)

    # data and conditioning -------------------------------------------------------------------------------------------

    def examples(self, task: str) -> list[Example]:
        """Return a source's training examples, from the snapshot that the first step wrote."""
        path = self.folder / "data" / f"{task}.jsonl"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            chosen = [e for e in part(TASKS[task], "train") if e.choices][: self.preset.checkpoints.samples]
            write_atomic(path, "".join(example.model_dump_json() + "\n" for example in chosen))
        try:
            examples = [
                Example.model_validate_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line
            ]
        except ValueError as error:
            raise InputError(f"{path}: damaged ({type(error).__name__}); delete the folder to start again") from None
        if len(examples) < 2:
            raise InputError(f"{task} has {len(examples)} training questions with choices; 2 are the least")
        return examples

    def rows(self, task: str) -> tuple[list[Row], list[Row]]:
        """Return a source's questions with their gold answers: those trained on, and those only measured on."""
        rows = answer_rows(self.lm, TASKS[task], self.examples(task), self.preset.row_tokens)
        return [row for i, row in enumerate(rows) if i % VALIDATION], rows[::VALIDATION]

    def states(self, task: str) -> list[Tensor]:
        """Return the token states (l_i, C), float16, of a source's training prompts."""
        path = self.folder / "states" / f"{task}.safetensors"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            examples = self.examples(task)
            prompts = [e.prompt for i, e in enumerate(examples) if i % VALIDATION][: self.preset.prompts_encoded]
            states = []
            for start in range(0, len(prompts), 32):
                hidden, mask = self.encoder.condition(prompts[start : start + 32])
                states += [state[kept].half() for state, kept in zip(hidden, mask, strict=True)]
                self.progress(f"encode {task}", len(states), len(prompts))
            tensors = {"values": torch.cat(states), "lengths": torch.tensor([len(state) for state in states])}
            save_tensors(path, tensors, {"encoder_sha256": self.encoder.sha256})
        values, lengths = read_tensors(path, "values", "lengths")
        return list(torch.split(values, lengths.tolist()))

    # checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoints(self, task: str) -> Tensor:
        """Return a source's checkpoints, (K, layers, D_l) bfloat16."""
        return self._collected(f"checkpoints/{task}", lambda: self.rows(task)[0])

    def union(self, variant: Variant) -> Tensor:
        """Return checkpoints of one adapter trained on all sources of a variant, the Union-Train control."""
        return self._collected(
            f"unions/{variant.name}", lambda: [row for task in variant.sources for row in self.rows(task)[0]]
        )

    def average(self, name: str) -> Tensor:
        """Return the mean of the checkpoints ``checkpoints/TASK`` or ``unions/VARIANT``, (layers, D_l) float32."""
        return read_tensors(self.folder / f"{name}-average.safetensors", "residual")[0].float()

    def _collected(self, name: str, rows: Callable[[], list[Row]]) -> Tensor:
        path, average = self.folder / f"{name}.safetensors", self.folder / f"{name}-average.safetensors"
        if not (path.exists() and average.exists()):
            path.parent.mkdir(exist_ok=True)
            residuals, losses = collect(
                self.lm,
                rows(),
                self.layout,
                preset=self.preset.checkpoints,
                initial_seed=INITIAL_SEED,
                seed=self.seed_for(name),
                progress=lambda _, done, total: self.progress(name, done, total),
                checkpoint=self.folder / f"{name}.partial",
            )
            mean = residuals.float().mean(0).to(torch.bfloat16)
            save_tensors(average, {"residual": mean}, {"losses": json.dumps(losses)})
            save_tensors(path, {"residuals": residuals}, {})
        (self.folder / f"{name}.partial").unlink(missing_ok=True)
        return read_tensors(path, "residuals")[0]

    # variants --------------------------------------------------------------------------------------------------------

    def generator(self, variant: Variant) -> TrainedGenerator:
        """Return a variant's trained generator."""
        path = self.folder / "variants" / variant.name / "generator.safetensors"
        partial = path.with_suffix(".partial")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            sources = [self.source(t) for t in variant.sources]
            self.union(variant)
            generator = self.untrained(sources, self.average(f"unions/{variant.name}"))
            losses = train_generator(
                generator,
                sources,
                self.lm,
                preset=self.preset.generator,
                seed=self.seed_for("generator", variant.name),
                progress=lambda _, done, total: self.progress(f"generator {variant.name}", done, total),
                checkpoint=partial,
            )
            tail = losses[-50:]
            generator.made = {
                "preset": self.preset.name,
                "seed": self.seed,
                "steps": len(losses),
                "sources": list(variant.sources),
                "data_sha256": {t: sha256_file(self.folder / "data" / f"{t}.jsonl") for t in variant.sources},
                "reconstruction_loss": sum(a for a, _ in tail) / len(tail),
                "answer_loss": sum(b for _, b in tail) / len(tail),
            }
            generator.round_as_stored()
            generator.made["validation"] = self.validate(generator, variant)
            write_json(path.parent / "generator-losses.json", losses)
            generator.save(path)
        partial.unlink(missing_ok=True)
        return load_generator(path, self.lm.sha256)

    def source(self, task: str) -> Source:
        """Return what a task gives to the generator's training."""
        rows = sorted(self.rows(task)[0], key=lambda row: len(row.tokens))
        return Source(task, self.states(task), rows, self.checkpoints(task))

    def untrained(self, sources: Sequence[Source], union: Tensor) -> TrainedGenerator:
        """Return a generator with seeded random weights; with element-wise statistics it returns about ``union``.

        Args:
            sources: their checkpoints give the statistics.
            union: (layers, D_l) residual of one adapter trained on all sources, better than their mean as a centre.
        """
        initial = self.lm.fresh_lora(INITIAL_SEED)
        encoder = read_header(self.folder / "states" / f"{self.preset.sources[0]}.safetensors")["encoder_sha256"]
        identity = Identity(self.lm.sha256, encoder, INITIAL_SEED, adapter_sha256(initial))
        statistics = fit(self.preset.statistics, sources)
        if statistics.mode == "element":
            statistics = replace(statistics, centre=union)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            train_centre = self.preset.generator.centre_rate > 0
            return TrainedGenerator(self.preset.ladder, self.layout, statistics, identity, train_centre=train_centre)

    def validate(self, generator: TrainedGenerator, variant: Variant) -> dict[str, dict[str, float]]:
        """Return the answers' loss on questions that nothing was trained on: base, checkpoint and generated."""
        losses = {}
        for task in variant.sources:
            states = self.states(task)[:VALIDATION_PROMPTS]
            tensor, mask = conditioning(states, (len(states), *generator.decoder.ladder.shapes[0][1:]))
            generated = self._validation_loss(task, generator.generate(tensor, mask))
            losses[task] = {**self.reference_losses(task, generator), "generated": generated}
            self.progress(f"validate {variant.name}", len(losses), len(variant.sources))
        return losses

    def reference_losses(self, task: str, generator: TrainedGenerator) -> dict[str, float]:
        """Return the losses of ``validate`` that are the same for every variant."""
        path = self.folder / "validation" / f"{task}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            checkpoint = generator.to_weights(self.average(f"checkpoints/{task}"), {})
            adapters = {"base": None, "checkpoint": checkpoint}
            write_json(path, {name: self._validation_loss(task, weights) for name, weights in adapters.items()})
        return read_json(path, dict[str, float])

    def _validation_loss(self, task: str, weights: LoraWeights | None) -> float:
        rows = sorted(self.rows(task)[1][:VALIDATION_ROWS], key=lambda row: len(row.tokens))
        with self.lm.adapted(weights):
            batches = [rows[i : i + 8] for i in range(0, len(rows), 8)]
            losses = [float(answer_loss(self.lm, batch, gradient=False)) * len(batch) for batch in batches]
        return round(sum(losses) / len(rows), 4)

    def aligner(self, variant: Variant) -> Path:
        """Train a variant's aligner and return its file."""
        path = self.folder / "variants" / variant.name / "aligner.safetensors"
        if not path.exists():
            generator = self.generator(variant).to(self.lm.device)
            pairs = [self.pairs(task, generator) for task in variant.sources]
            aligner, losses = train_aligner(
                pairs,
                self.layout,
                generator.initial,
                preset=self.preset.aligner,
                seed=self.seed_for("aligner", variant.name),
                target="checkpoint",
                generator_sha256=generator.sha256,
                device=self.lm.device,
                progress=lambda _, done, total: self.progress(f"aligner {variant.name}", done, total),
                checkpoint=path.with_suffix(".partial"),
            )
            write_json(path.parent / "aligner-losses.json", losses)
            aligner.save(path)
        path.with_suffix(".partial").unlink(missing_ok=True)
        return path

    def pairs(self, task: str, generator: TrainedGenerator) -> SourceTask:
        """Return what one task gives to the aligner: generated adapters of several prompt batches and their vectors."""
        limit, count = self.preset.aligner.vector_prompts, generator.prompts
        examples = [e for i, e in enumerate(self.examples(task)) if i % VALIDATION][: self.preset.prompts_encoded]
        style = self.lm.profile.answer_style
        prompts = [TASKS[task].query(example, style).prefix for example in examples]
        states, residuals, vectors = self.states(task), [], []
        for k in range(self.preset.pairs):
            places = [(k * count + i) % len(states) for i in range(count)]
            tensor, mask = conditioning([states[i] for i in places], generator.decoder.ladder.shapes[0])
            weights = generator.generate(tensor, mask)
            residuals.append(generator.to_residual(weights))
            vectors.append(task_vector(self.lm, weights, [prompts[i] for i in places], limit))
            self.progress(f"task vectors {task}", k + 1, self.preset.pairs)
        checkpoint = self.average(f"checkpoints/{task}")
        return SourceTask(task, torch.stack(residuals), torch.stack(vectors), checkpoint)

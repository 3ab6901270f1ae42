"""Stage 1 of a consolidation: checkpoints, Union-Train, and the generators with what they come to."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from agent.train.files import read_header, read_json, read_tensors, save_tensors
from agent.train.generator.sources import Sources
from agent.train.generator.variants import Variant
from cao.files import sealed, sha256_file, write_json
from cao.inference.choice_loss import ChoiceRow
from cao.model.adapters import LoraWeights, adapter_sha256, initial_lora
from cao.model.packed_forward import Row
from cao.model.profiles import LORA_TARGETS
from tools.generate_lora.checkpoints import collect
from tools.generate_lora.generator import Identity, TrainedGenerator, load_generator
from tools.generate_lora.sources import Source, conditioning, fit
from tools.generate_lora.statistics import Statistics
from tools.generate_lora.tokens import flatten
from tools.generate_lora.training import train_generator
from tools.generate_lora.training_step import question_loss

INITIAL_SEED = 0
"""Of the one LoRA initialisation that every checkpoint starts from."""

VALIDATION_PROMPTS = 32
"""Training prompts that a source's adapter is generated from, to be measured."""


class Generators(Sources):
    """A consolidation's folder, its data, and the steps up to the trained generators."""

    # checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoints(self, task: str) -> Tensor:
        """Return a source's checkpoints, (K, layers, D_l) bfloat16."""
        return self._collected(f"checkpoints/{task}", lambda: self.rows(task))

    def steps(self, task: str) -> int:
        """Return the steps that a source's checkpoints took."""
        path = self.folder / "checkpoints" / f"{task}-average.safetensors"
        return len(json.loads(read_header(path)["losses"]))

    def union(self, variant: Variant) -> Tensor:
        """Return the mean residual of Union-Train, (layers, D_l) float32: one adapter for all sources of a variant.

        Where generators are trained through the model alone, it is the same training with every prompt left out.
        """
        if self.preset.generator.reconstruction > 0:
            self._collected(f"unions/{variant.name}", lambda: self._united(variant))
        elif not (path := self.folder / "unions" / f"{variant.name}-average.safetensors").exists():
            path.parent.mkdir(exist_ok=True)
            generator, losses = self._trained(
                variant, path.with_suffix(".partial"), f"union {variant.name}", alone=True
            )
            residual = generator.to_residual(generator.unconditional()).to(torch.bfloat16)
            save_tensors(path, {"residual": residual}, {"losses": json.dumps([loss for _, loss in losses])})
            path.with_suffix(".partial").unlink(missing_ok=True)
        return self.average(f"unions/{variant.name}")

    def average(self, name: str) -> Tensor:
        """Return the mean of the checkpoints ``checkpoints/TASK`` or ``unions/VARIANT``, (layers, D_l) float32."""
        return read_tensors(self.folder / f"{name}-average.safetensors", "residual")[0].float()

    def _united(self, variant: Variant) -> tuple[list[Row], list[Row]]:
        """Return the questions of all sources of a variant: those trained on, and those held back, a source in turn."""
        parts = [self.rows(task) for task in variant.sources]
        turns = zip_longest(*(held_back for _, held_back in parts))
        return [row for trained, _ in parts for row in trained], [row for turn in turns for row in turn if row]

    def _collected(self, name: str, rows: Callable[[], tuple[list[Row], list[Row]]]) -> Tensor:
        path, average = self.folder / f"{name}.safetensors", self.folder / f"{name}-average.safetensors"
        if not (path.exists() and average.exists()):
            path.parent.mkdir(exist_ok=True)
            trained, held_back = rows()
            residuals, losses = collect(
                self.lm,
                trained,
                self.layout,
                held_back=held_back,
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
            label = f"generator {variant.name}"
            generator, losses = self._trained(variant, partial, label, alone=False)
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

    def _trained(
        self, variant: Variant, partial: Path, label: str, *, alone: bool
    ) -> tuple[TrainedGenerator, list[tuple[float, float]]]:
        """Train a variant's generator, or the same one without any prompt, and return it with its losses."""
        sources, preset = [self.source(task) for task in variant.sources], self.preset.generator
        if alone:
            preset = preset.model_copy(update={"unprompted": 1.0, "contrast": 0.0})
        generator = self.untrained(sources, variant).to(self.lm.device)
        if not preset.through_model:
            self.forget_model()
        losses = train_generator(
            generator,
            sources,
            self.lm if preset.through_model else None,
            preset=preset,
            seed=self.seed_for("generator", variant.name),
            progress=lambda _, done, total: self.progress(label, done, total),
            checkpoint=partial,
        )
        return generator, losses

    def source(self, task: str) -> Source:
        """Return what a task gives to the generator's training."""
        preset, rows, questions = self.preset.generator, list[Row](), list[ChoiceRow]()
        if preset.choices:
            questions = sorted(self.questions(task), key=lambda each: len(each.row.tokens))
        else:
            rows = sorted(self.rows(task)[0], key=lambda row: len(row.tokens))
        kept = self.checkpoints(task) if preset.reconstruction > 0 else torch.empty(0)
        return Source(task, self.states(task), rows, kept, questions)

    def untrained(self, sources: Sequence[Source], variant: Variant) -> TrainedGenerator:
        """Return a generator with seeded random weights; with element-wise statistics it returns about Union-Train.

        Args:
            sources: their checkpoints give the statistics; where there are none, it begins at the LoRA initialisation,
                and a token's scalars are in units of a layer's root mean square of that: in units of 1 they drown it.
            variant: which one; its Union-Train adapter is a better centre than the mean of the checkpoints.
        """
        layout = self.layout
        initial = initial_lora(layout.shapes(), LORA_TARGETS, layout.rank, layout.alpha, INITIAL_SEED, self.lm.sha256)
        encoder = read_header(self.folder / "states" / f"{sources[0].name}.safetensors")["encoder_sha256"]
        identity = Identity(self.lm.sha256, encoder, INITIAL_SEED, adapter_sha256(initial))
        begun = flatten(initial.tensors, layout)
        scale = (
            begun.square().mean(1, keepdim=True).sqrt() if self.preset.head == "tokens" else torch.ones(len(begun), 1)
        )
        statistics = Statistics("element", torch.zeros_like(begun), scale)
        if self.preset.generator.reconstruction > 0:
            statistics = fit(self.preset.statistics, sources)
            if statistics.mode == "element":
                statistics = replace(statistics, centre=self.union(variant))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return TrainedGenerator(
                self.preset.ladder,
                layout,
                statistics,
                identity,
                train_centre=self.preset.generator.centre_rate > 0,
                head=self.preset.head,
            )

    def validate(self, generator: TrainedGenerator, variant: Variant) -> dict[str, dict[str, float]]:
        """Return the loss on questions that nothing was trained on: base, checkpoint where there is one, generated."""
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
            adapters: dict[str, LoraWeights | None] = {"base": None}
            if self.preset.generator.reconstruction > 0:
                adapters["checkpoint"] = generator.to_weights(self.average(f"checkpoints/{task}"), {})
            write_json(path, sealed({name: self._validation_loss(task, one) for name, one in adapters.items()}))
        return read_json(path, dict[str, float])

    def _validation_loss(self, task: str, weights: LoraWeights | None) -> float:
        """Return the training's loss on a source's questions that no training has."""
        preset = self.preset
        held = self.questions(task, held_back=True) if preset.generator.choices else self.rows(task)[1]
        rows = held[: preset.validated]
        with self.lm.adapted(weights), torch.no_grad():
            batches = [rows[i : i + 8] for i in range(0, len(rows), 8)]
            losses = [
                float(question_loss(self.lm, batch, preset.generator, gradient=False)) * len(batch) for batch in batches
            ]
        return round(sum(losses) / max(1, len(rows)), 4)

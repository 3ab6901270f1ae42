"""Text-to-LoRA style: a task's description becomes an adapter, trained through the frozen model.

It is this project's generator with the core head, its training and its loss; only what it reads differs: the embedding
of one paragraph about the task in the place of the task's prompts. So the row says what the prompts are worth.

Source: Charakorn et al., Text-to-LoRA (2025).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from agent.train.generator.generators import INITIAL_SEED
from agent.train.generator.presets import PRESETS
from cao.configuration import CountOrNone
from cao.inference.choice_loss import ChoiceRow
from cao.model.adapters import adapter_sha256
from cao.model.packed_forward import Row
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.types import Record
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads, Spent
from eval.baselines.descent import Read, Timed, mean_tokens
from eval.baselines.ground import Ground, Target
from eval.baselines.objective import Objective, tokens_of
from tools.generate_lora.core_head import core_shape
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import Identity, TrainedGenerator
from tools.generate_lora.sources import GeneratorPreset, Source
from tools.generate_lora.statistics import Statistics
from tools.generate_lora.training import train_generator

WIDTH = 384
"""C, channels of an embedding."""


class TextSettings(Record):
    """Hyper-parameters.

    Attributes:
        preset: how the generator is trained.
        tokens: that the training may read, 0 for no limit: steps are so many that they read as much on average.
        middle: (L, C) between the decoder's blocks.
        kernel: of its convolutions.
    """

    preset: GeneratorPreset
    tokens: CountOrNone = 0
    middle: tuple[int, int] = (8, 16)
    kernel: int = 3


@dataclass(frozen=True)
class TextToLora(Baseline):
    """A generator that reads a description.

    Attributes:
        hyper: the hyper-parameters.
    """

    hyper: TextSettings

    name = "text_to_lora"
    reads: ClassVar[Reads] = "description"

    @classmethod
    def paper(cls) -> Self:
        """Return it with the training of the preset ``wide``: it is in no table of the paper, which has no settings."""
        return cls(TextSettings(preset=PRESETS["wide"].generator.model_copy(update={"unprompted": 0.0})))

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it within a budget, trained as the consolidation's generator is, through the model alone.

        The rate is that of the adapter which all tasks share; the decoder's is ten times as large, as in ``wide``.
        """
        own = ground.workshop.consolidation.preset.generator
        changed = {"rate": 10 * rate, "centre_rate": rate, "reconstruction": 0.0, "behaviour_from": 0}
        return cls(TextSettings(preset=own.model_copy(update=changed | {"unprompted": 0.0}), tokens=budget.preparing))

    def settings(self) -> TextSettings:
        """Return the hyper-parameters."""
        return self.hyper

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return the generator's weights."""
        sources = [self._source(ground, name) for name in ground.variant.sources]
        preset = self._preset(ground)
        generator, timed = self._untrained(ground).to(ground.lm.device), Timed(ground.progress)
        with Read.by(ground.lm) as read:
            train_generator(
                generator,
                sources,
                ground.lm,
                preset=preset,
                seed=ground.seed,
                progress=timed,
                checkpoint=place.checkpoint,
                checkpoint_every_s=place.every_s,
            )
        tensors = {name: value.detach().float().cpu() for name, value in generator.state_dict().items()}
        tokens = round(read.tokens / (timed.share or 1.0))
        return Prepared(tensors, Spent(steps=preset.steps, tokens=tokens, seconds=timed.seconds))

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the adapter of the target's description."""
        generator = self._untrained(ground)
        generator.load_state_dict(dict(prepared.tensors))
        generator.eval().requires_grad_(False)
        state = described(ground, target.task)
        made = generator.generate(state[None].float(), torch.ones(1, 1, dtype=torch.bool))
        return Adapted(replace(made, provenance={"made_by": self.name}))

    def _source(self, ground: Ground, name: str) -> Source:
        preset = self.hyper.preset
        objective = Objective(answers=preset.answers, choices=preset.choices)
        every = sorted(ground.rows(name, objective), key=lambda each: tokens_of([each]))
        rows = [each for each in every if isinstance(each, Row)]
        questions = [each for each in every if isinstance(each, ChoiceRow)]
        return Source(name, [described(ground, get_task(name))], rows, torch.empty(0), questions)

    def _preset(self, ground: Ground) -> GeneratorPreset:
        """Return the preset, with as many steps as the tokens pay for; a contrast reads every question twice."""
        preset = self.hyper.preset
        if not self.hyper.tokens:
            return preset
        objective = Objective(answers=preset.answers, choices=preset.choices)
        question = mean_tokens([ground.rows(name, objective) for name in ground.variant.sources])
        passes = 1 + (1 / preset.contrast_every if preset.contrast and len(ground.variant.sources) > 1 else 0)
        a_step = min(preset.tasks, len(ground.variant.sources)) * preset.batch * question * passes
        return preset.model_copy(update={"steps": max(1, round(self.hyper.tokens / a_step))})

    def _untrained(self, ground: Ground) -> TrainedGenerator:
        consolidation, lm = ground.workshop.consolidation, ground.lm
        layout, initial = consolidation.layout, lm.fresh_lora(INITIAL_SEED)
        ladder = Ladder(
            ((1, 1, WIDTH), (layout.layers, *self.hyper.middle), core_shape(layout)), self.hyper.kernel, affine=False
        )
        statistics = Statistics("element", torch.zeros(layout.layers, layout.length), torch.ones(layout.layers, 1))
        identity = Identity(lm.sha256, consolidation.encoder.sha256, INITIAL_SEED, adapter_sha256(initial))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ground.seed)
            return TrainedGenerator(ladder, layout, statistics, identity, train_centre=True, head="core")


def described(ground: Ground, task: Task) -> Tensor:
    """Return the embedding of a task's description, (1, C); of its title where it has none."""
    return ground.workshop.consolidation.encoder.embed([task.description or task.title])

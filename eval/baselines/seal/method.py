"""SEAL's kind: the policy writes a recipe of a LoRA training, and ReST-EM fine-tunes it on those that helped.

The paper's self-edits hold training data as well as hyper-parameters; here the data are the labelled support questions
that every few-shot baseline reads, and the policy, the base model with an adapter of its own, writes the
hyper-parameters. A reward is 1 where the trained adapter lowers the loss of other questions of the source.

Source: Zweiger et al., Self-Adapting Language Models (2025), its few-shot setting; the reading is this project's.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Self

import torch

from agent.train.policy.fine_tune import Lesson, encode_lesson, fine_tune
from agent.train.policy.settings import Tuning
from cao.configuration import Amount, Count, CountOrNone
from cao.errors import InputError
from cao.inference.grammar import Grammar
from cao.inference.sampling import sample
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.types import Record
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads, Spent
from eval.baselines.descent import Extent, Plain, Read, drawn, train_lora
from eval.baselines.ground import FEW, Ground, Target
from eval.baselines.objective import Objective, Questions, tokens_of
from eval.baselines.seal.recipe import SCHEMA, TrainingRecipe, Tried, asking, parse, winners

MAX_TOKENS = 48
"""Of a recipe."""


class SealSettings(Record):
    """Hyper-parameters.

    Attributes:
        iterations: of ReST-EM.
        sources: tasks of an iteration, at most.
        samples: recipes of each.
        temperature: they are drawn at.
        held: questions of a source that judge a recipe.
        support: labelled questions that a recipe is applied to.
        tokens: that the preparation may read; a text that is being written when they end is finished. 0 stands for no
            limit.
        steps: on all labelled questions, whose tokens are those that a recipe's training may read. 0 stands for no
            limit.
        objective: what LoRA learns.
        tuning: of the policy.
    """

    iterations: Count = 2
    sources: Count = 8
    samples: Count = 5
    temperature: Amount = 1.0
    held: Count = 16
    support: Count = FEW
    tokens: CountOrNone = 0
    steps: CountOrNone = 0
    objective: Objective = Objective()
    tuning: Tuning = Tuning()


@dataclass(frozen=True)
class Seal(Baseline):
    """A policy of training recipes, and LoRA by what it writes.

    Attributes:
        hyper: the hyper-parameters.
    """

    hyper: SealSettings

    name = "seal"
    reads: ClassVar[Reads] = "support labels"
    rated = False  # the policy chooses rates

    @classmethod
    def paper(cls) -> Self:
        """Return it with two iterations and five recipes a task."""
        return cls(SealSettings())

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it within a budget, with the generator's objective."""
        return cls(SealSettings(tokens=budget.preparing, steps=budget.steps, objective=ground.objective))

    def settings(self) -> SealSettings:
        """Return the hyper-parameters."""
        return self.hyper

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return the policy's adapter after ReST-EM; a killed preparation begins anew."""
        lm, hyper, began, steps = ground.lm, self.hyper, time.monotonic(), 0
        policy = lm.fresh_lora(0)
        with Read.by(lm) as read:
            for iteration in range(hyper.iterations):
                names = random.Random(f"{ground.seed}:seal:{iteration}").sample(
                    ground.variant.sources, min(hyper.sources, len(ground.variant.sources))
                )
                tried = list[Tried]()
                for done, source in enumerate(names, 1):
                    if self._left(read) <= 0:
                        break
                    found, taken = self.tried(ground, policy, source, iteration, read)
                    tried, steps = tried + found, steps + taken
                    ground.progress(f"recipes, iteration {iteration + 1}", done, len(names))
                lessons = self._payable(lm, winners(tried), read)
                if lessons:
                    policy = fine_tune(lm, lessons, policy, hyper.tuning, progress=ground.progress)
                    steps += hyper.tuning.epochs * len(lessons)
        spent = Spent(steps=steps, tokens=read.tokens, seconds=round(time.monotonic() - began, 3))
        return Prepared(policy.tensors, spent)

    def _left(self, read: Read) -> float:
        """Return the tokens that the preparation may still read."""
        return self.hyper.tokens - read.tokens if self.hyper.tokens else math.inf

    def _payable(self, lm: LanguageModel, lessons: Sequence[Lesson], read: Read) -> list[Lesson]:
        """Return the first of the lessons, as many as the tokens that are left pay for."""
        tokens = [self.hyper.tuning.epochs * encode_lesson(lm, lesson)["input_ids"].numel() for lesson in lessons]
        left = self._left(read)
        return [lesson for lesson, total in zip(lessons, accumulate(tokens), strict=True) if total <= left]

    def tried(
        self, ground: Ground, policy: LoraWeights, source: str, iteration: int, read: Read
    ) -> tuple[list[Tried], int]:
        """Return what a source's recipes came to, and the steps of their trainings.

        Args:
            ground: the sources.
            policy: that writes the recipes.
            source: a task.
            iteration: whose draws these are.
            read: counts what the preparation reads.
        """
        target, hyper = ground.rehearsal(source), self.hyper
        rows = target.rows(ground.lm, hyper.objective, target.support[: hyper.support])
        held = target.rows(ground.lm, hyper.objective, target.reward[: hyper.held])
        before, steps = self._loss(ground, None, held), 0
        prompt, tried = asking(ground.lm, [example.prompt for example in target.support]), list[Tried]()
        with Read.by(ground.lm) as writing:
            texts = self.written(ground, policy, prompt, f"{source}:{iteration}")
        for text in texts:
            recipe, left = parse(text), self._left(read)
            if recipe is None or left <= 0:
                continue
            try:
                weights, spent = self._trained(ground, rows, recipe, Place(), min(left, self._allowed(rows, writing)))
                steps += spent.steps
                helped = self._loss(ground, weights, held) < before
            except InputError:  # it diverged
                helped = False
            tried.append(Tried(prompt, text, helped))
        return tried, steps

    def written(self, ground: Ground, policy: LoraWeights, prompt: str, label: str) -> list[str]:
        """Return the different texts that a policy writes, in order."""
        lm = ground.lm
        draws = torch.Generator().manual_seed(random.Random(f"{ground.seed}:{label}").getrandbits(62))
        with lm.adapted(policy):
            texts = sample(
                lm,
                prompt,
                self.hyper.samples,
                temperature=self.hyper.temperature,
                top_k=50,
                top_p=0.9,
                max_tokens=MAX_TOKENS,
                generator=draws,
                grammar=Grammar(lm, SCHEMA),
            )
        return list(dict.fromkeys(texts))

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return LoRA on labelled support questions, by the first recipe that the policy writes; writing it counts.

        Raises:
            InputError: none of its texts is a recipe.
        """
        lm, hyper, began = ground.lm, self.hyper, time.monotonic()
        policy = ground.full(prepared.tensors, self.name)
        prompt = asking(lm, [example.prompt for example in target.support])
        rows = target.rows(lm, hyper.objective, target.support[: hyper.support])
        with Read.by(lm) as read:
            texts = self.written(ground, policy, prompt, f"{target.task.name}:{target.seed}")
        writing = Spent(tokens=read.tokens, seconds=round(time.monotonic() - began, 3))
        recipe = next((found for found in map(parse, texts) if found), None)
        if recipe is None:
            raise InputError(f"{self.name}: none of {len(texts)} texts for {target.task.name} is a recipe")
        weights, training = self._trained(ground, rows, recipe, place, self._allowed(rows, read))
        return Adapted(weights, writing + training)

    def _loss(self, ground: Ground, weights: LoraWeights | None, rows: Questions) -> float:
        with ground.lm.adapted(weights):
            return float(self.hyper.objective.loss(ground.lm, rows, gradient=False))

    def _allowed(self, rows: Questions, writing: Read) -> float:
        """Return the tokens that a recipe's training may read: those of its steps, less those that writing it took."""
        return self.hyper.steps * tokens_of(rows) - writing.tokens if self.hyper.steps else math.inf

    def _trained(
        self, ground: Ground, rows: Questions, recipe: TrainingRecipe, place: Place, tokens: float
    ) -> tuple[LoraWeights, Spent]:
        """Return LoRA by a recipe: as many steps as its epochs take, or as some tokens pay for, one at least."""
        steps = recipe.epochs * -(-len(rows) // recipe.batch)
        plain = Plain(
            rate=recipe.learning_rate,
            batch=recipe.batch,
            extent=Extent(steps=steps, tokens=0 if math.isinf(tokens) else max(1, int(tokens))),
            objective=self.hyper.objective,
        )

        def draw(number: int) -> Questions:
            return drawn(rows, recipe.batch, ground.seed, number)

        return train_lora(ground.lm, ground.lm.fresh_lora(0), draw, plain, place, self.name, ground.progress)

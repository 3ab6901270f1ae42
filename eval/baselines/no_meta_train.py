"""No-Meta-Train: LoRA trained on the target's own train questions, with nothing learnt before.

Source: CAO-LLM Table 2, ``No Meta-Train``, and Table 8 for the schedule.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from cao.errors import InputError
from cao.inference.answer_loss import answer_rows
from eval.baselines.baseline import Adapted, Budget, Place, Prepared, Reads
from eval.baselines.checkpoints import Scheduled, collected
from eval.baselines.descent import drawn, train_lora
from eval.baselines.ground import TARGET_TOKENS, Ground, Target
from tools.generate_lora.checkpoints import CheckpointPreset


@dataclass(frozen=True)
class NoMetaTrain(Scheduled):
    """LoRA for one task."""

    name = "no_meta_train"
    reads: ClassVar[Reads] = "train labels"

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it with the tokens of a method that prepares nothing, and the generator's batch and objective."""
        return cls.within(budget.alone, rate, ground)

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return LoRA that was trained on the target's train questions."""
        if not target.train:
            raise InputError(f"{target.task.name} sets nothing aside for training")
        lm, seed = ground.lm, target.seed
        if isinstance(self.how, CheckpointPreset):
            rows = answer_rows(lm, target.task, target.train[: self.how.samples], TARGET_TOKENS)
            return collected(ground, rows, self.how, seed, place, self.name)
        plain = self.how
        questions = target.rows(lm, plain.objective, target.train)
        weights, spent = train_lora(
            lm,
            lm.fresh_lora(0),
            lambda number: drawn(questions, plain.batch, seed, number),
            plain,
            place,
            self.name,
            ground.progress,
        )
        return Adapted(weights, spent)

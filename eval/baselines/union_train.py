"""Union-Train: one LoRA adapter trained on the questions of all source tasks.

Source: CAO-LLM Table 2, ``Union Train``, and Table 8 for the schedule.
"""

import random
from dataclasses import dataclass
from typing import ClassVar, Self

from eval.baselines.baseline import Adapted, Budget, Place, Prepared, Reads
from eval.baselines.checkpoints import Scheduled, collected
from eval.baselines.descent import Plain, drawn, train_lora
from eval.baselines.ground import Ground, Target
from tools.generate_lora.checkpoints import CheckpointPreset


@dataclass(frozen=True)
class UnionTrain(Scheduled):
    """LoRA for all sources together."""

    name = "union_train"
    reads: ClassVar[Reads] = "nothing"

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it with the tokens of the preparation, and the generator's batch and objective."""
        return cls.within(budget.preparing, rate, ground)

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return LoRA that was trained on the sources; within a budget, each source is drawn as often as another."""
        made = self._by_schedule(ground, place) if isinstance(self.how, CheckpointPreset) else None
        if made is None:
            assert isinstance(self.how, Plain)
            made = self._within(self.how, ground, place)
        assert made.weights is not None
        return Prepared(made.weights.tensors, made.spent)

    def _by_schedule(self, ground: Ground, place: Place) -> Adapted:
        assert isinstance(self.how, CheckpointPreset)
        consolidation = ground.workshop.consolidation
        rows = [row for source in ground.variant.sources for row in consolidation.rows(source)[0]]
        return collected(ground, rows, self.how, ground.seed, place, self.name)

    def _within(self, plain: Plain, ground: Ground, place: Place) -> Adapted:
        pools = [ground.rows(source, plain.objective) for source in ground.variant.sources]
        weights, spent = train_lora(
            ground.lm,
            ground.lm.fresh_lora(0),
            lambda number: drawn(
                random.Random(f"{ground.seed}:source:{number}").choice(pools), plain.batch, ground.seed, number
            ),
            plain,
            place,
            self.name,
            ground.progress,
        )
        return Adapted(weights, spent)

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the one adapter."""
        return Adapted(ground.full(prepared.tensors, self.name))

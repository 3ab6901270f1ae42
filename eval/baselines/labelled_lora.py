"""LoRA on the labelled questions that steer a run: what a user would try first with the same labels.

Source: this project's control; the training is ``eval.policies.labelled_lora``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from cao.configuration import CountOrNone
from cao.inference.answer_loss import answer_rows
from cao.model.adapters import load_adapter
from cao.types import Example, Record
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads, Spent
from eval.baselines.ground import Ground, Target
from eval.baselines.objective import Objective, tokens_of
from eval.policies.labelled_lora import ROW_TOKENS, Fitted, Recipe, Shelf, fit_lora, held_back
from tools.generate_lora.checkpoints import batches


class LabelledSettings(Record):
    """Hyper-parameters.

    Attributes:
        recipe: rates that are tried, epochs at most, batch.
        tokens: that all of it may read; epochs are fewer where they would read more, but one. 0 stands for no limit.
    """

    recipe: Recipe = Recipe()
    tokens: CountOrNone = 0


@dataclass(frozen=True)
class LabelledLora(Baseline):
    """LoRA on reward questions, stopped early by a third of them.

    Attributes:
        hyper: the hyper-parameters.
    """

    hyper: LabelledSettings

    name = "labelled_lora"
    reads: ClassVar[Reads] = "reward labels"
    rated = False  # it chooses its own
    least: ClassVar[str] = "one epoch with each rate and one with the chosen one"

    @classmethod
    def paper(cls) -> Self:
        """Return it as a user would do it."""
        return cls(LabelledSettings())

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it with the grid's rates and the tokens of a method that prepares nothing."""
        return cls(LabelledSettings(recipe=Recipe(rates=budget.rates), tokens=budget.alone))

    def settings(self) -> LabelledSettings:
        """Return the hyper-parameters."""
        return self.hyper

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return LoRA that was trained on the target's reward questions."""
        lm, questions = ground.lm, target.reward
        recipe = self._recipe(ground, target)
        shelf = Shelf(ground.folder / "labelled", ground.folder / "labelled" / "adapters")
        fitted = fit_lora(
            lm,
            target.task,
            questions,
            lm.fresh_lora(0),
            seed=target.seed,
            shelf=shelf,
            recipe=recipe,
            progress=ground.progress,
        )
        weights = load_adapter(shelf.store / fitted.adapter, lm.sha256)
        return Adapted(weights, cost(ground, target, fitted, recipe))

    def _recipe(self, ground: Ground, target: Target) -> Recipe:
        """Return the recipe with as many epochs as the tokens pay for."""
        recipe = self.hyper.recipe
        if not self.hyper.tokens:
            return recipe
        one = Fitted(
            rate=recipe.rates[0],
            epochs=1,
            questions=len(target.reward),
            held_back=0,
            losses={f"{rate:g}": (0.0, 0.0) for rate in recipe.rates},
            adapter="",
            rehearsal="",
            seconds=0.0,
        )
        tokens = cost(ground, target, one, recipe).tokens or 1
        return recipe.model_copy(update={"epochs": min(recipe.epochs, max(1, self.hyper.tokens // tokens))})


def cost(ground: Ground, target: Target, fitted: Fitted, recipe: Recipe) -> Spent:
    """Return what a training took: every rate's epochs, the answers that judged them, and the last training.

    Args:
        ground: the model.
        target: its reward questions.
        fitted: the epochs of each rate, those that were taken, and the seconds.
        recipe: batch.
    """
    back = held_back(target.reward)
    others = [example for example in target.reward if example not in back]
    asked = Objective(choices=1.0).rows(ground.lm, target.task, back, ROW_TOKENS) if back else ()
    parts = [_epochs(ground, target, target.reward, fitted.epochs, recipe.batch)]
    for losses in fitted.losses.values():
        trained = _epochs(ground, target, others, len(losses) - 1, recipe.batch)
        parts.append(trained + Spent(tokens=len(losses) * tokens_of(asked)))
    steps, tokens = sum(part.steps for part in parts), sum(part.tokens or 0 for part in parts)
    return Spent(steps=steps, tokens=tokens, seconds=fitted.seconds)


def _epochs(ground: Ground, target: Target, examples: Sequence[Example], epochs: int, batch: int) -> Spent:
    rows = answer_rows(ground.lm, target.task, examples, ROW_TOKENS)
    steps = -(-len(rows) // batch) * epochs
    places = [place for some in batches(len(rows), batch, steps, 0) for place in some] if steps else []
    return Spent(steps=steps, tokens=tokens_of([rows[place] for place in places]))

"""MAML-en-LLM: weights from which one step on a few questions of a task helps its other questions.

A meta-step takes one task. The inner step moves the weights on a batch of its questions; the gradient of another batch
at the moved weights is then applied where the inner step began. One AdamW serves both loops, so that each reads and
changes the other's moments. The inner step is the optimiser's own and is not differentiated through: what AdamW makes
of a gradient that is nearly zero, as A's is at the start, has no useful slope.

Source: Sinha et al., MAML-en-LLM (2024); CAO-LLM H for the hyper-parameters.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from cao.configuration import Amount, Count, CountOrNone
from cao.types import Record
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads
from eval.baselines.descent import Extent, Plain, descend, taken, train_lora
from eval.baselines.ground import FEW, Ground, Target, fresh_lora
from eval.baselines.objective import Objective, Questions, tokens_of


class MamlSettings(Record):
    """Hyper-parameters; the defaults are the paper's.

    Attributes:
        inner_rate: of the step within a task.
        outer_rate: of the step on the meta-weights.
        inner_steps: within a task.
        batch: questions of each batch.
        betas: of AdamW.
        eps: of AdamW.
        decay: of AdamW's weights.
        clip: of every gradient's norm.
        shared: whether both loops share AdamW's moments; the inner loop begins with none of its own otherwise.
        epochs: meta-steps are this many times the sources' questions over the batch, unless ``extent`` ends them.
        extent: of the meta-training.
        support: labelled questions at test time, of which every step reads all.
        testing: of the steps at test time.
        targets: modules that carry LoRA, at the profile's rank.
        objective: what is learnt.

    Source: CAO-LLM H.
    """

    inner_rate: Amount = 1e-5
    outer_rate: Amount = 1e-5
    inner_steps: Count = 1
    batch: Count = 1
    betas: tuple[Amount, Amount] = (0.9, 0.999)
    eps: Amount = 1e-8
    decay: Amount = 0.01
    clip: Amount = 1.0
    shared: bool = True
    epochs: CountOrNone = 10
    extent: Extent = Extent(steps=50_000)
    support: Count = FEW
    testing: Extent = Extent(steps=10)
    targets: tuple[str, ...] = ("q_proj", "v_proj", "o_proj")
    objective: Objective = Objective()

    def adamw(self, parameters: Mapping[str, Tensor]) -> torch.optim.AdamW:
        """Return the optimiser, without moments."""
        return torch.optim.AdamW(
            list(parameters.values()),
            lr=self.outer_rate,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.decay,
        )


def meta_step(
    live: Mapping[str, Tensor],
    inner: Sequence[Callable[[], Tensor]],
    outer: Callable[[], Tensor],
    optimizer: torch.optim.AdamW,
    settings: MamlSettings,
) -> tuple[float, float]:
    """Take one meta-step in place.

    Args:
        live: name → parameter; at the end it has moved by the outer step alone.
        inner: a loss for each inner step, at the parameters as they are when it is called.
        outer: the loss at the moved parameters.
        optimizer: on ``live``; its moments take part in both loops where they are shared.
        settings: rates, clipping, sharing.

    Returns:
        The first inner loss and the outer one.
    """
    began = {name: parameter.detach().clone() for name, parameter in live.items()}
    within = optimizer if settings.shared else settings.adamw(live)
    losses = [_step(live, loss, within, settings.inner_rate, settings.clip) for loss in inner]
    optimizer.zero_grad()
    loss = outer()
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in live.items():
            parameter.copy_(began[name])
    _apply(live, optimizer, settings.outer_rate, settings.clip)
    return losses[0], float(loss.detach())


def _step(
    live: Mapping[str, Tensor],
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    rate: float,
    clip: float,
) -> float:
    optimizer.zero_grad()
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    _apply(live, optimizer, rate, clip)
    return float(value.detach())


def _apply(live: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, rate: float, clip: float) -> None:
    """Move the parameters along their gradients."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    torch.nn.utils.clip_grad_norm_(list(live.values()), clip)
    optimizer.step()


@dataclass(frozen=True)
class MamlEnLlm(Baseline):
    """Meta-trained LoRA, and a few steps on labelled support questions.

    Attributes:
        hyper: the hyper-parameters.
    """

    hyper: MamlSettings

    name = "maml"
    reads: ClassVar[Reads] = "support labels"

    @classmethod
    def paper(cls) -> Self:
        """Return it with Appendix H's settings."""
        return cls(MamlSettings())

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it within a budget, at one rate for both loops; the generator's batch is divided between them."""
        batch = max(1, ground.workshop.consolidation.preset.generator.batch // 2)
        hyper = MamlSettings(
            inner_rate=rate,
            outer_rate=rate,
            batch=batch,
            epochs=0,
            extent=Extent(tokens=budget.preparing),
            testing=Extent(steps=budget.steps),
            objective=ground.objective,
        )
        return cls(hyper)

    def settings(self) -> MamlSettings:
        """Return the hyper-parameters."""
        return self.hyper

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return meta-trained weights."""
        hyper, lm = self.hyper, ground.lm
        pools = [ground.rows(source, hyper.objective) for source in ground.variant.sources]
        start = fresh_lora(lm, hyper.targets)
        with lm.adapted(start, trainable=True) as live:
            optimizer = hyper.adamw(live)

            def step(number: int) -> int:
                inner, outer = episode(pools, hyper.inner_steps, hyper.batch, f"{ground.seed}:{number}")

                def loss(rows: Questions) -> Callable[[], Tensor]:
                    return lambda: hyper.objective.loss(lm, rows, gradient=True)

                meta_step(live, [loss(rows) for rows in inner], loss(outer), optimizer, hyper)
                return sum(map(tokens_of, [*inner, outer]))

            spent = descend(step, self._extent(pools), live, optimizer, place, self.name, ground.progress)
            return Prepared(taken(live, start, self.name).tensors, spent)

    def _extent(self, pools: Sequence[Questions]) -> Extent:
        """Return when the meta-training ends: after its epochs, where they are fewer than its steps."""
        hyper = self.hyper
        if not hyper.epochs:
            return hyper.extent
        steps = hyper.epochs * -(-sum(map(len, pools)) // hyper.batch)
        return hyper.extent.model_copy(update={"steps": min(steps, hyper.extent.steps or steps)})

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the weights after the inner loop's steps on labelled support questions, with moments of their own."""
        hyper, lm = self.hyper, ground.lm
        start = replace(fresh_lora(lm, hyper.targets), tensors=dict(prepared.tensors))
        rows = target.rows(lm, hyper.objective, target.support[: hyper.support])
        plain = Plain(
            rate=hyper.inner_rate,
            batch=hyper.support,
            extent=hyper.testing,
            objective=hyper.objective,
            decay=hyper.decay,
            clip=hyper.clip,
        )
        return Adapted(*train_lora(lm, start, lambda _: rows, plain, place, self.name, ground.progress))


def episode(pools: Sequence[Questions], inner_steps: int, batch: int, seed: str) -> tuple[list[Questions], Questions]:
    """Return the batches of one task's inner steps and of its outer step, no question twice where there are enough.

    Args:
        pools: the tasks' questions; each task is as likely as another.
        inner_steps: how many inner batches.
        batch: questions of each.
        seed: of the draw.
    """
    rng = random.Random(seed)
    pool, wanted = rng.choice(pools), (inner_steps + 1) * batch
    rows = list(pool)
    some = rng.sample(rows, wanted) if wanted <= len(rows) else rng.choices(rows, k=wanted)
    parts: list[Questions] = [some[start : start + batch] for start in range(0, wanted, batch)]
    return parts[:-1], parts[-1]

"""ABMLL: a normal distribution over every adapted matrix, with global and task-specific adapters for mean and spread.

Four adapters a module: θ has a mean and a spread, φ has too. A meta-step sets φ to θ and moves φ by SGD on a task's
questions and on β·KL(q(φ|D)‖p(φ|θ)). Then it moves θ by AdamW: on the gradient of fresh questions of that task at the
moved φ, which is handed on to θ as it is, on β times the same divergence, and on γ times the prior's energy.

The likelihood is taken at the mean. A spread of softplus(B·A + c) is about .69 before training, many times a base
weight; weights drawn with it would leave nothing of the model.

Source: Zhang, Snell, Griffiths, ABMLL (2025); CAO-LLM H for the hyper-parameters.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from cao.configuration import Amount, Count, CountOrNone
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.types import Record
from eval.baselines.abmll.gaussian import Pair, divergence, first_pair, prior_energy
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads
from eval.baselines.descent import Extent, descend, taken
from eval.baselines.ground import FEW, Ground, Target, fresh_lora
from eval.baselines.objective import Objective, Questions, tokens_of

INNER_RATIO = 100.0
"""Under equal rules SGD's rate over AdamW's: SGD moves by the gradient's own size, which is some hundredths here."""


class AbmllSettings(Record):
    """Hyper-parameters; the defaults are the paper's.

    Attributes:
        rank: r of every adapter.
        scale: standard deviation of every half before training.
        offset: c.
        beta: weight of KL(q(φ|D)‖p(φ|θ)).
        gamma: weight of the prior's energy.
        shape: of the precision's Gamma.
        prior_rate: of the precision's Gamma.
        inner_rate: of SGD on φ.
        outer_rate: of AdamW on θ.
        decay: of AdamW's weights.
        inner_steps: of φ, each on a batch of its own.
        outer_batches: fresh batches whose mean gradient moves θ.
        batch: questions of a batch.
        epochs: meta-steps read the sources' questions so many times, unless ``extent`` ends them.
        extent: of the meta-training.
        support: labelled questions at test time.
        testing: of φ's steps at test time.
        targets: modules that carry the adapters.
        objective: what is learnt.

    Source: CAO-LLM H.
    """

    rank: Count = 8
    scale: Amount = 0.01
    offset: Amount = 1e-20
    beta: Amount = 5e-7
    gamma: Amount = 2e-20
    shape: Amount = 1.0
    prior_rate: Amount = 0.01
    inner_rate: Amount = 1e-5
    outer_rate: Amount = 1e-5
    decay: Amount = 0.01
    inner_steps: Count = 5
    outer_batches: Count = 5
    batch: Count = 2
    epochs: CountOrNone = 10
    extent: Extent = Extent()
    support: Count = FEW
    testing: Extent = Extent(steps=5)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    objective: Objective = Objective()


@dataclass(frozen=True)
class Problem:
    """What meta-steps work on.

    Attributes:
        theta: the global pair; leaves that the optimiser changes.
        phi: the task's pair; leaves, of which the means are what the model computes with.
        modules: PEFT prefixes of the adapted matrices.
        scale: α/r.
        settings: rates and weights.
    """

    theta: Pair
    phi: Pair
    modules: Sequence[str]
    scale: float
    settings: AbmllSettings

    def reset(self) -> None:
        """Set φ to θ."""
        moved = self.phi.named()
        with torch.no_grad():
            for name, value in self.theta.named().items():
                moved[name].copy_(value)

    def inner(self, loss: Callable[[], Tensor]) -> None:
        """Move φ by one step of SGD on the loss and on β times the divergence from θ."""
        _clear(self.phi)
        loss().backward()  # type: ignore[no-untyped-call]
        self._diverge(self.phi)
        with torch.no_grad():
            for value in self.phi.named().values():
                if value.grad is not None:
                    value -= self.settings.inner_rate * value.grad

    def outer(self, losses: Sequence[Callable[[], Tensor]]) -> None:
        """Set θ's gradient: the mean loss's at φ, β times the divergence's and γ times the prior's at θ."""
        _clear(self.phi)
        _clear(self.theta)
        for loss in losses:
            (loss() / len(losses)).backward()  # type: ignore[no-untyped-call]
        for name, value in self.phi.mean.items():
            self.theta.mean[name].grad = torch.zeros_like(value) if value.grad is None else value.grad.clone()
        self._diverge(self.theta)
        if self.settings.gamma:
            given = self.settings
            for module in self.modules:
                mean, sigma = self.theta.module(module, self.scale, given.offset)
                energy = prior_energy(mean, sigma, given.shape, given.prior_rate)
                (given.gamma * energy).backward()  # type: ignore[no-untyped-call]

    def _diverge(self, moved: Pair) -> None:
        """Add β·KL(q(φ)‖p(φ|θ)) to one pair's gradient, a matrix at a time: all are as large as the model."""
        given = self.settings
        if not given.beta:
            return
        for module in self.modules:
            q, p = (pair.module(module, self.scale, given.offset) for pair in (self.phi, self.theta))
            mean, sigma = (part.detach() for part in (p if moved is self.phi else q))
            divided = divergence(*q, mean, sigma) if moved is self.phi else divergence(mean, sigma, *p)
            (given.beta * divided).backward()  # type: ignore[no-untyped-call]


def _clear(pair: Pair) -> None:
    for value in pair.named().values():
        value.grad = None


def _leaves(pair: Pair, device: str) -> Pair:
    made = {name: value.to(device, torch.float32, copy=True).requires_grad_() for name, value in pair.named().items()}
    return Pair.of(made)


@dataclass(frozen=True)
class Abmll(Baseline):
    """Meta-trained distributions, and a few steps of φ on labelled support questions; answers come from φ's mean.

    Attributes:
        hyper: the hyper-parameters.
    """

    hyper: AbmllSettings

    name = "abmll"
    reads: ClassVar[Reads] = "support labels"

    @classmethod
    def paper(cls) -> Self:
        """Return it with Appendix H's settings."""
        return cls(AbmllSettings())

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return it within a budget; the rate is AdamW's, and SGD's is a hundred times as large."""
        hyper = AbmllSettings(
            inner_rate=rate * INNER_RATIO,
            outer_rate=rate,
            epochs=0,
            extent=Extent(tokens=budget.preparing),
            objective=ground.objective,
        )
        testing = Extent(steps=-(-budget.steps * hyper.support // hyper.batch))
        return cls(hyper.model_copy(update={"testing": testing}))

    def settings(self) -> AbmllSettings:
        """Return the hyper-parameters."""
        return self.hyper

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return θ."""
        hyper, lm = self.hyper, ground.lm
        pools = [ground.rows(source, hyper.objective) for source in ground.variant.sources]
        start = fresh_lora(lm, hyper.targets, hyper.rank)
        theta = _leaves(first_pair(start, hyper.scale, ground.seed), lm.device)
        named = theta.named()
        optimizer = torch.optim.AdamW(list(named.values()), lr=hyper.outer_rate, weight_decay=hyper.decay)
        with lm.adapted(replace(start, tensors=theta.mean), trainable=True) as live:
            problem = self._problem(start, theta, live)

            def step(number: int) -> int:
                pool = random.Random(f"{ground.seed}:task:{number}").choice(pools)
                draw = random.Random(f"{ground.seed}:{number}")
                drawn = [_some(pool, hyper.batch, draw) for _ in range(hyper.inner_steps + hyper.outer_batches)]
                losses = [_loss(lm, rows, hyper.objective) for rows in drawn]
                meta_step(problem, losses[: hyper.inner_steps], losses[hyper.inner_steps :], optimizer)
                return sum(map(tokens_of, drawn))

            spent = descend(step, self._extent(pools), named, optimizer, place, self.name, ground.progress)
        return Prepared({name: value.detach().cpu() for name, value in named.items()}, spent)

    def _problem(self, start: LoraWeights, theta: Pair, live: Mapping[str, Tensor]) -> Problem:
        spreads = {name: value.detach().clone().requires_grad_() for name, value in theta.spread.items()}
        phi = Pair(dict(live), spreads)
        return Problem(theta, phi, start.modules(), start.alpha / start.rank, self.hyper)

    def _extent(self, pools: Sequence[Questions]) -> Extent:
        """Return when the meta-training ends: with its last epoch, unless something else ends it first."""
        hyper = self.hyper
        if not hyper.epochs:
            return hyper.extent
        questions = (hyper.inner_steps + hyper.outer_batches) * hyper.batch
        steps = -(-hyper.epochs * sum(map(len, pools)) // questions)
        return hyper.extent.model_copy(update={"steps": min(steps, hyper.extent.steps or steps)})

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the mean of φ after its steps on labelled support questions."""
        hyper, lm = self.hyper, ground.lm
        rows = target.rows(lm, hyper.objective, target.support[: hyper.support])
        start = fresh_lora(lm, hyper.targets, hyper.rank)
        theta = _leaves(Pair.of(prepared.tensors), lm.device)
        with lm.adapted(replace(start, tensors=theta.mean), trainable=True) as live:
            problem = self._problem(start, theta, live)
            nothing = torch.optim.SGD(list(live.values()), lr=hyper.inner_rate)  # keeps no moments

            def step(number: int) -> int:
                some = _some(rows, hyper.batch, random.Random(f"{target.seed}:{number}"))
                problem.inner(_loss(lm, some, hyper.objective))
                return tokens_of(some)

            moved = problem.phi.named()
            spent = descend(step, hyper.testing, moved, nothing, place, self.name, ground.progress)
            return Adapted(taken(live, start, self.name), spent)


def meta_step(
    problem: Problem,
    inner: Sequence[Callable[[], Tensor]],
    outer: Sequence[Callable[[], Tensor]],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take one meta-step in place.

    Args:
        problem: both pairs.
        inner: a loss for each of φ's steps, at φ's means as they are when it is called.
        outer: the losses whose mean gradient moves θ.
        optimizer: on θ.
    """
    problem.reset()
    for loss in inner:
        problem.inner(loss)
    problem.outer(outer)
    optimizer.step()


def _loss(lm: LanguageModel, rows: Questions, objective: Objective) -> Callable[[], Tensor]:
    return lambda: objective.loss(lm, rows, gradient=True)


def _some(pool: Questions, batch: int, rng: random.Random) -> Questions:
    return rng.sample(list(pool), min(batch, len(pool)))

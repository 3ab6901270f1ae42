"""A training's loop: counted, within an extent, and resumable from a checkpoint; and plain LoRA by it."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from cao.configuration import Amount, Count, CountOrNone
from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.language_model import LanguageModel
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress
from cao.types import Record
from eval.baselines.baseline import Place, Spent
from eval.baselines.objective import Objective, Questions, tokens_of


class Extent(Record):
    """When a training ends: at whichever limit comes first; 0 stands for none.

    Attributes:
        steps: of the optimiser.
        tokens: read; a step that begins below the limit is finished.
    """

    steps: CountOrNone = 0
    tokens: CountOrNone = 0

    def over(self, spent: Spent) -> bool:
        """Return whether a training has reached a limit."""
        tokens = spent.tokens or 0
        return bool((self.steps and spent.steps >= self.steps) or (self.tokens and tokens >= self.tokens))


def descend(
    step: Callable[[int], int],
    extent: Extent,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    place: Place,
    label: str,
    progress: Progress,
) -> Spent:
    """Take steps until the extent is reached and return what they cost, those before a kill included.

    Args:
        step: takes the step of a number, from 0, and returns the tokens that it read. What it draws depends on the
            number alone, so that a resumed training makes the same draws.
        extent: when to end; it has a limit.
        parameters: name → all that the steps change.
        optimizer: on the CPU or the device; its moments are kept.
        place: where the training goes on from.
        label: of the progress.
        progress: called after each step.

    Raises:
        InputError: a parameter is not finite at the end, or the checkpoint is damaged.
    """
    assert extent.steps or extent.tokens, "a training without a limit"
    spent = _restored(parameters, optimizer, place)
    before, began = spent.seconds or 0.0, time.monotonic()
    saved = began
    while not extent.over(spent):
        tokens = step(spent.steps)
        seconds = before + time.monotonic() - began
        spent = Spent(steps=spent.steps + 1, tokens=(spent.tokens or 0) + tokens, seconds=round(seconds, 3))
        if place.checkpoint and time.monotonic() - saved >= place.every_s:
            count = torch.tensor([spent.steps, spent.tokens or 0, seconds], dtype=torch.float64)
            save_training(place.checkpoint, place.fingerprint, parameters, optimizer, {"spent": count})
            saved = time.monotonic()
        if extent.steps:
            progress(label, spent.steps, extent.steps)
        else:
            progress(label, min(spent.tokens or 0, extent.tokens), extent.tokens)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters.values()):
        raise InputError(f"{label} diverged (a weight is not finite): take a lower rate")
    return spent


def _restored(parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, place: Place) -> Spent:
    """Return what was spent before a kill, with parameters and moments set; nothing where there is no checkpoint."""
    if not place.checkpoint:
        return Spent()
    carried = restore_training(place.checkpoint, place.fingerprint, parameters, optimizer, ("spent",))
    if not carried:
        return Spent()
    steps, tokens, seconds = carried["spent"].tolist()
    return Spent(steps=int(steps), tokens=int(tokens), seconds=seconds)


@dataclass
class Timed:
    """Times a training that has a loop of its own; of one that goes on after a kill, as if all steps took as long.

    Attributes:
        progress: is called on.
    """

    progress: Progress
    _began: float = field(default_factory=time.monotonic)
    _first: int | None = None
    _done: int = 0

    def __call__(self, label: str, done: int, total: int) -> None:
        """Note a step, and report it."""
        if self._first is None:
            self._first = done - 1
        self._done = done
        self.progress(label, done, total)

    @property
    def share(self) -> float:
        """Share of the steps that were taken here, above 0 where any were."""
        return (self._done - (self._first or 0)) / max(1, self._done)

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return round((time.monotonic() - self._began) / (self.share or 1.0), 3)


@dataclass
class Read:
    """Counts what a model reads, for loops that are not this project's own or do not count.

    Attributes:
        tokens: that went through the embedding, padding included.
    """

    tokens: int = 0

    @classmethod
    @contextmanager
    def by(cls, lm: LanguageModel) -> "Iterator[Read]":
        """Count for the length of the block."""
        read = cls()

        def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            read.tokens += given[0].numel()

        handle = lm.model.get_input_embeddings().register_forward_pre_hook(count)
        try:
            yield read
        finally:
            handle.remove()


class Plain(Record):
    """How LoRA is trained on questions.

    Attributes:
        rate: of AdamW.
        batch: questions a step.
        extent: when it ends.
        objective: what is learnt.
        decay: of AdamW's weights.
        clip: of the gradient's norm.
    """

    rate: Amount
    batch: Count
    extent: Extent
    objective: Objective = Objective()
    decay: Amount = 0.0
    clip: Amount = 1.0


def drawn(rows: Questions, batch: int, *seed: object) -> Questions:
    """Return some questions, each once, all of them where there are no more."""
    rng = random.Random(":".join(map(str, seed)))
    return rng.sample(list(rows), min(batch, len(rows)))


def train_lora(
    lm: LanguageModel,
    start: LoraWeights,
    draw: Callable[[int], Questions],
    plain: Plain,
    place: Place,
    label: str,
    progress: Progress,
) -> tuple[LoraWeights, Spent]:
    """Return an adapter that AdamW trained on questions, and what it cost.

    Args:
        lm: the base model, undressed.
        start: the adapter to go on from.
        draw: step → its questions, by the step's number alone.
        plain: rate, extent, objective.
        place: where the training goes on from.
        label: of the progress.
        progress: called after each step.

    Raises:
        InputError: it diverged.
    """
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.AdamW(list(live.values()), lr=plain.rate, weight_decay=plain.decay)

        def step(number: int) -> int:
            rows = draw(number)
            optimizer.zero_grad()
            plain.objective.loss(lm, rows, gradient=True).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(list(live.values()), plain.clip)
            optimizer.step()
            return tokens_of(rows)

        spent = descend(step, plain.extent, live, optimizer, place, label, progress)
        return taken(live, start, label), spent


def taken(live: Mapping[str, Tensor], start: LoraWeights, made_by: str) -> LoraWeights:
    """Return the adapter of live parameters."""
    tensors = {name: parameter.detach().float().cpu().clone() for name, parameter in live.items()}
    return replace(start, tensors=tensors, provenance={"made_by": made_by, "start": adapter_sha256(start)})


def mean_tokens(pools: Sequence[Questions]) -> float:
    """Return the mean tokens of a question, every pool weighing the same."""
    return sum(tokens_of(pool) / len(pool) for pool in pools) / len(pools)

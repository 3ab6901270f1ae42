"""LoRA fitted on labelled questions, as a user would do it: AdamW on gold answers, stopped early by a part held back.

A third of the questions is held back, and every rate is trained on the others. After each epoch the questions held back
are answered; the epoch and the rate of their lowest log-loss are taken, none at all where no epoch lowers it. Then the
adapter is trained anew on all questions at that rate for as many epochs. No other question's label is read.

A finished training is kept by a fingerprint of all that it depends on, so a kill costs one training.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from agent.train.files import read_json
from cao.errors import InputError, NotApplicableError
from cao.files import canonical_json, sealed, sha256_bytes, write_json
from cao.inference.answer_loss import answer_rows
from cao.model.adapters import LoraWeights, adapter_sha256, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.profiles import settings_of
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import AdaptedModel, AdapterRef, Example, Record
from eval.code import code_of
from eval.questions import as_asked
from tools.evaluate import answer_by, evaluate
from tools.evaluate.answer_rule import RULES
from tools.evaluate.temperature import FEWEST, losses
from tools.generate_lora.checkpoints import answer_step, batches

HELD_BACK = 3
"""One question in so many stops the training."""

ROW_TOKENS = 512


class Recipe(Record):
    """How LoRA is trained on labels.

    Attributes:
        rates: learning rates that are tried.
        epochs: of each, at most.
        batch: questions a step.
    """

    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    epochs: int = 8
    batch: int = 8


class Fitted(Record):
    """A finished training.

    Attributes:
        rate: that was taken.
        epochs: that were taken, 0 where the start is kept.
        questions: whose labels were read.
        held_back: of them, those that chose rate and epochs.
        losses: rate → log-loss of the questions held back before the training and after each epoch; a training that
            diverged ends early.
        adapter: hash of the adapter that was trained on all questions.
        rehearsal: hash of the one that was trained without those held back.
        seconds: of the whole training.
    """

    rate: float
    epochs: int
    questions: int
    held_back: int
    losses: dict[str, tuple[float, ...]]
    adapter: str
    rehearsal: str
    seconds: float


@dataclass(frozen=True)
class Shelf:
    """Where trainings and adapters of one situation lie.

    Attributes:
        records: folder of the trainings' records.
        store: folder of adapters.
    """

    records: Path
    store: Path

    def model(self, sha256: str, lm: LanguageModel) -> AdaptedModel:
        """Return the model with a trained adapter."""
        weights = load_adapter(self.store / sha256, lm.sha256)
        path = str(self.store / sha256)
        reference = AdapterRef(path=path, sha256=sha256, base_sha256=weights.base_sha256, rank=weights.rank)
        return AdaptedModel(members=(reference,))


def deal(examples: Sequence[Example], purpose: str, every: int) -> tuple[list[Example], list[Example]]:
    """Return the questions without every n-th group of them, and those; whatever order they come in.

    Args:
        examples: questions; twins stay together.
        purpose: another one deals otherwise.
        every: n.
    """
    groups = {example.group or example.id for example in examples}
    dealt = sorted(groups, key=lambda group: sha256_bytes(f"{purpose}:{group}".encode()))
    second = set(dealt[every - 1 :: every])
    ordered = sorted(examples, key=lambda example: sha256_bytes(example.id.encode()))
    sides = [(example.group or example.id) in second for example in ordered]
    return (
        [example for example, there in zip(ordered, sides, strict=True) if not there],
        [example for example, there in zip(ordered, sides, strict=True) if there],
    )


def held_back(questions: Sequence[Example]) -> list[Example]:
    """Return the questions of a training that choose its rate and its epochs."""
    return deal(questions, "held back", HELD_BACK)[1]


def fit_lora(
    lm: LanguageModel,
    task: Task,
    questions: Sequence[Example],
    start: LoraWeights,
    *,
    seed: int,
    shelf: Shelf,
    recipe: Recipe,
    progress: Progress = silent,
) -> Fitted:
    """Return a training on labelled questions; one that is finished is not done again.

    Args:
        lm: the base model, undressed.
        task: how questions are asked.
        questions: with choices; their labels are read.
        start: the adapter to go on from; the recorded initialisation is the plain model.
        seed: of the order of the questions.
        shelf: where the training is kept.
        recipe: what is tried.
        progress: called after each rate.

    Raises:
        InputError: too few questions, or a kept record is damaged.
    """
    path = shelf.records / f"{_fingerprint(lm, task, questions, start, seed, recipe)[:16]}.json"
    if path.exists():
        found = read_json(path, Fitted)
        if all((shelf.store / sha256).exists() for sha256 in (found.adapter, found.rehearsal)):
            return found
    began = time.monotonic()
    most, back = deal(questions, "held back", HELD_BACK)
    if len(back) < 2 * FEWEST:  # no half of them would tell a temperature
        raise InputError(f"{task.name}: {len(questions)} labelled questions are too few to train on and to stop by")
    tried, (rate, epochs), rehearsal = _rehearsed(lm, task, most, back, start, seed, recipe, progress)
    every = answer_rows(lm, task, [*most, *back], ROW_TOKENS)
    final = train(lm, every, start, rate=rate, epochs=epochs, batch=recipe.batch, seed=seed)[-1]
    progress("LoRA on labels", len(recipe.rates) + 1, len(recipe.rates) + 1)
    kept = [save_adapter(shelf.store, weights, lm.source).sha256 for weights in (final, rehearsal)]
    fitted = Fitted(
        rate=rate,
        epochs=epochs,
        questions=len(questions),
        held_back=len(back),
        losses=tried,
        adapter=kept[0],
        rehearsal=kept[1],
        seconds=round(time.monotonic() - began, 3),
    )
    shelf.records.mkdir(parents=True, exist_ok=True)
    write_json(path, sealed(fitted.model_dump(mode="json")))
    return fitted


def _rehearsed(
    lm: LanguageModel,
    task: Task,
    most: Sequence[Example],
    back: Sequence[Example],
    start: LoraWeights,
    seed: int,
    recipe: Recipe,
    progress: Progress,
) -> tuple[dict[str, tuple[float, ...]], tuple[float, int], LoraWeights]:
    """Return the losses held back by rate, the rate and the epochs of the lowest, and the adapter that has it."""
    tried, rows = dict[str, tuple[float, ...]](), answer_rows(lm, task, most, ROW_TOKENS)
    lowest, chosen, rehearsal = float("inf"), (recipe.rates[0], 0), start
    for done, rate in enumerate(recipe.rates, 1):
        course = train(lm, rows, start, rate=rate, epochs=recipe.epochs, batch=recipe.batch, seed=seed)
        tried[f"{rate:g}"] = found = _answered(lm, task, back, course)
        for epoch, loss in enumerate(found):
            if loss < lowest:
                lowest, chosen, rehearsal = loss, (rate, epoch), course[epoch]
        progress("LoRA on labels", done, len(recipe.rates) + 1)
    return tried, chosen, rehearsal


def train(
    lm: LanguageModel, rows: Sequence[Row], start: LoraWeights, *, rate: float, epochs: int, batch: int, seed: int
) -> list[LoraWeights]:
    """Return the adapter before the training and after each epoch; one that diverges ends before it does.

    Args:
        lm: the base model, undressed.
        rows: questions with their gold answers.
        start: the adapter to go on from.
        rate: learning rate of AdamW, without weight decay: it would pull the start towards zero.
        epochs: at most.
        batch: questions a step.
        seed: of their order.
    """
    steps = -(-len(rows) // batch)
    schedule, course = batches(len(rows), batch, steps * epochs, seed), [start]
    made = {"made_by": "LoRA on labels", "start": adapter_sha256(start), "rate": f"{rate:g}"}
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.AdamW(list(live.values()), lr=rate, weight_decay=0.0)
        for epoch in range(epochs):
            try:
                for places in schedule[epoch * steps : (epoch + 1) * steps]:
                    answer_step(lm, [rows[place] for place in places], live, optimizer, rate)
            except InputError:
                break
            tensors = {name: parameter.detach().cpu().clone() for name, parameter in live.items()}
            if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
                break
            provenance = {**made, "epochs": str(epoch + 1)}
            course.append(replace(start, tensors=tensors, provenance=provenance))
    return course


def _answered(
    lm: LanguageModel, task: Task, examples: Sequence[Example], course: Sequence[LoraWeights]
) -> tuple[float, ...]:
    """Return the log-loss of each adapter, under the better of the rules that take no prior off."""
    style, found = lm.profile.answer_style, list[float]()
    plain = [rule for rule in RULES if rule.prior == "none"]
    for weights in course:
        try:
            with lm.adapted(weights):
                items = evaluate(task, examples, AdaptedModel(), "likelihood", lm=lm)
        except NotApplicableError:  # it has diverged
            break
        under = [answer_by(rule, task, examples, items, {}, style) for rule in plain]
        found.append(min(float(losses(answers).mean()) for answers in under))
    return tuple(found)


def _fingerprint(
    lm: LanguageModel, task: Task, questions: Sequence[Example], start: LoraWeights, seed: int, recipe: Recipe
) -> str:
    """Return what a kept training has to agree in; the order of the questions is none of it."""
    ordered = as_asked(task, sorted(questions, key=lambda example: example.id), lm.profile.answer_style)
    depends_on = {
        "code": code_of(__name__),
        "model": lm.sha256,
        "profile": settings_of(lm.profile),
        "device": lm.device,
        "dtype": lm.dtype,
        "task": task.name,
        "questions": ordered,
        "start": adapter_sha256(start),
        "seed": seed,
        "recipe": recipe.model_dump(mode="json"),
    }
    return sha256_bytes(canonical_json(depends_on).encode())

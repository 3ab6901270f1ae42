"""``latent``: SLOT over a batch of prompts against a plain implementation, a sample at a time.

Two plain ones: hidden states kept between the steps, as ours are, and the model's whole forward in every step.
Throughput counts a prompt's way from its tokens to δ, the forward pass included; the steps alone are stated beside it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cao.inference.scoring import CHUNK_BYTES
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.types import Record
from eval.bench.measure import BenchResult, Figure, Line, alternate, machine, ratio
from eval.bench.plain.slot import cached, forward_each_step, states_of
from tools.apply_strategy.latent import optimise_delta

STEPS, RATE = 5, 0.1
TOKEN_BUDGET = 2048
"""Padded tokens of one batch, as in scoring."""
AIM_DIFFERENCE, AIM_STEP = 1e-4, 1.3

Batch = tuple[list[int], Tensor, Tensor]
"""Places of the prompts, token ids (B, L), and the positions whose target lies in the prompt (B, L − 1)."""


class Slot(Record):
    """The strategy's numbers."""

    steps: int
    lr: float


class LatentResult(BenchResult):
    """What batches are worth.

    Attributes:
        prompts: how many.
        tokens: of all of them.
        slot: the strategy.
        largest_difference: dtype → max |δ − plain δ|.
        ratios: plain way → throughput over it, and ``step`` → a step's time over that of a forward pass with the logits
            of all positions; None where the machine was too noisy.
        spreads: of the ratios.
        noisy: ratios that scatter too widely.
        seconds: way → median of the repetitions.
    """

    prompts: int
    tokens: int
    slot: Slot
    largest_difference: dict[str, float]
    ratios: dict[str, float | None]
    spreads: dict[str, float]
    noisy: list[str]
    seconds: dict[str, float]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        lines = [("prompts", f"{self.prompts}, {self.tokens} tokens, {self.slot.steps} steps")]
        for name, label in LABELS.items():
            lines.append((label, Figure(self.ratios[name] or 0.0, self.spreads[name]).text()))
        difference = self.largest_difference
        text = ", ".join(f"{difference[name]:.1e} in {name}" for name in ("float32", "float64"))
        text += f" (aim: {AIM_DIFFERENCE:.0e}); {difference['model']:.1e} in the model's dtype"
        return [*lines, ("largest difference of δ", text)]


LABELS = {
    "forward_each_step": "prompts a second, against a forward pass in every step",
    "cached": "prompts a second, against cached hidden states",
    "steps_alone": "the steps alone, from cached hidden states on both sides",
    "step": f"time of a step, over that of a forward pass with all logits (aim: at most {AIM_STEP})",
}
"""Ratio → its line's label."""


def batched(prompts: Sequence[list[int]]) -> list[Batch]:
    """Divide prompts into padded batches of similar lengths.

    Args:
        prompts: token ids of each.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
        if groups and (len(groups[-1]) + 1) * len(prompts[groups[-1][0]]) <= TOKEN_BUDGET:
            groups[-1].append(i)
        else:
            groups.append([i])
    batches = []
    for group in groups:
        lengths = torch.tensor([len(prompts[i]) for i in group])
        ids = torch.zeros(len(group), int(lengths.max()), dtype=torch.long)
        for row, i in enumerate(group):
            ids[row, : len(prompts[i])] = torch.tensor(prompts[i])
        batches.append((group, ids, torch.arange(ids.shape[1] - 1) < lengths[:, None] - 1))
    return batches


@torch.inference_mode()
def hidden_of(lm: LanguageModel, batch: Batch) -> Tensor:
    """Return the hidden states that predict, (B, L − 1, d); padding stands behind, where the causal mask hides it."""
    hidden: Tensor = lm.trunk(input_ids=batch[1].to(lm.device), use_cache=False).last_hidden_state
    return hidden[:, :-1]


@torch.inference_mode()
def forward(lm: LanguageModel, batch: Batch) -> None:
    """Take a forward pass with the logits of all positions, a bounded number of them at once."""
    states = hidden_of(lm, batch)[batch[2].to(lm.device)]
    for some in torch.split(states, max(1, CHUNK_BYTES // (4 * lm.head.weight.shape[0]))):
        lm.logits(some)


def deltas(lm: LanguageModel, batch: Batch, hidden: Tensor) -> Tensor:
    """Return δ of a batch of prompts from their hidden states, (B, d)."""
    targets, mask = batch[1][:, 1:].to(lm.device), batch[2].to(lm.device)
    return optimise_delta(hidden, targets, mask, lm.head.weight, STEPS, RATE)


@torch.no_grad()
def largest_difference(lm: LanguageModel, prompts: Sequence[list[int]], batches: Sequence[Batch]) -> dict[str, float]:
    """Return max |δ − plain δ| from the same hidden states: in float32, in float64, and in the model's dtype.

    AdamW divides by the gradient's own size, so that δ is of the rate's order where the gradient is rounding error.

    Args:
        lm: the model.
        prompts: token ids of each.
        batches: the same in batches.
    """
    dtypes = {"float32": torch.float32, "float64": torch.float64, "model": lm.model.dtype}
    largest = dict.fromkeys(dtypes, 0.0)
    for name, dtype in dtypes.items():
        weight = lm.head.weight.to(dtype)
        for batch in batches:
            hidden, mask = hidden_of(lm, batch).clone(), batch[2].to(lm.device)
            hidden = hidden.to(dtype)
            ours = optimise_delta(hidden, batch[1][:, 1:].to(lm.device), mask, weight, STEPS, RATE)
            for row, i in enumerate(batch[0]):
                targets = torch.tensor(prompts[i][1:], device=lm.device)
                with torch.enable_grad():
                    plain = cached(hidden[row][mask[row]], targets, weight, STEPS, RATE)
                largest[name] = max(largest[name], float((ours[row] - plain).abs().max()))
    return largest


def bench(
    lm: LanguageModel, prompts: Sequence[list[int]], *, repetitions: int, progress: Progress = silent
) -> LatentResult:
    """Measure.

    Args:
        lm: the model, undressed.
        prompts: token ids of each.
        repetitions: passes of each side.
        progress: called after each.
    """
    described, batches = machine(), batched(prompts)
    difference = largest_difference(lm, prompts, batches)
    progress("difference", 1, 1)
    known = [hidden_of(lm, batch).clone() for batch in batches]
    states = [states_of(lm, torch.tensor([tokens], device=lm.device))[:-1] for tokens in prompts]
    targets = [torch.tensor(tokens[1:], device=lm.device) for tokens in prompts]
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: [deltas(lm, batch, hidden_of(lm, batch)) for batch in batches],
        "cached": lambda: [
            cached(states_of(lm, torch.tensor([tokens], device=lm.device))[:-1], wanted, lm.head.weight, STEPS, RATE)
            for tokens, wanted in zip(prompts, targets, strict=True)
        ],
        "forward": lambda: [forward_each_step(lm, tokens, STEPS, RATE) for tokens in prompts],
        "plain": lambda: [forward(lm, batch) for batch in batches],
        "ours_steps": lambda: [deltas(lm, batch, hidden) for batch, hidden in zip(batches, known, strict=True)],
        "cached_steps": lambda: [
            cached(each, wanted, lm.head.weight, STEPS, RATE) for each, wanted in zip(states, targets, strict=True)
        ],
    }
    sides["ours"]()
    sides["cached"]()
    took = alternate(sides, repetitions, device=lm.device, progress=progress)
    figures = {
        "forward_each_step": ratio(took["forward"], took["ours"]),
        "cached": ratio(took["cached"], took["ours"]),
        "steps_alone": ratio(took["cached_steps"], took["ours_steps"]),
        "step": ratio([each / STEPS for each in took["ours_steps"]], took["plain"]),
    }
    return LatentResult(
        bench="latent",
        machine=described,
        repetitions=repetitions,
        prompts=len(prompts),
        tokens=sum(len(tokens) for tokens in prompts),
        slot=Slot(steps=STEPS, lr=RATE),
        largest_difference=difference,
        ratios={name: each.stated for name, each in figures.items()},
        spreads={name: each.scatter for name, each in figures.items()},
        noisy=[name for name, each in figures.items() if each.noisy],
        seconds={name: round(sorted(values)[len(values) // 2], 4) for name, values in took.items()},
    )

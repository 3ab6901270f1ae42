"""The trainings that ``training`` measures: of checkpoints and of TTL, by our loops and by the public trainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cao.inference.answer_loss import answer_loss
from cao.inference.scoring import ending
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.strategies.ttl import TTL
from eval.bench.measure import now, plain_linear
from eval.bench.plain.training import IGNORED, live, peft_model, train
from tools.apply_strategy.ttl import MAX_TOKENS, train_ttl
from tools.apply_strategy.ttl_loss import LOG_P0, prompt_losses
from tools.generate_lora.checkpoints import CheckpointPreset, collect
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

CHECKPOINT_RATE, TTL_RATE = 3e-4, 3e-4
INITIAL_SEED = 0


@dataclass(frozen=True)
class Trained:
    """What one side made.

    Attributes:
        seconds: from the end of the first step to the end of the last.
        weights: the adapter.
    """

    seconds: float
    weights: LoraWeights


@dataclass(frozen=True)
class Loop:
    """A training that both sides can do.

    Attributes:
        ours: trains by our loop, from the adapter given.
        theirs: trains by the public trainer.
        loss: of an adapter, nats a token.
        tokens: real tokens of all rows but a step's share.
    """

    ours: Callable[[], Trained]
    theirs: Callable[[], Trained]
    loss: Callable[[LoraWeights | None], float]
    tokens: float


class _Laps:
    def __init__(self, device: str) -> None:
        self._device, self._stamps = device, list[float]()

    def __call__(self, *_: object) -> None:
        self._stamps.append(now(self._device))

    @property
    def seconds(self) -> float:
        return self._stamps[-1] - self._stamps[0]


def _by_trainer(
    lm: LanguageModel, rows: Sequence[dict[str, list[int]]], batch: int, rate: float, *, weighted: bool
) -> Trained:
    laps, start = _Laps(lm.device), lm.fresh_lora(INITIAL_SEED)
    with plain_linear(lm.model), peft_model(lm, start) as dressed:
        train(dressed, rows, batch=batch, steps=len(rows) // batch, rate=rate, weighted=weighted, lap=laps)
        tensors = {name: value.detach().float().cpu().clone() for name, value in live(dressed).items()}
    return Trained(laps.seconds, replace(start, tensors=tensors))


def checkpoint_loop(lm: LanguageModel, rows: list[Row], batch: int) -> Loop:
    """Return the checkpoints' training: answers behind questions.

    Args:
        lm: the model.
        rows: a multiple of ``batch``.
        batch: rows a step.
    """
    steps, start = len(rows) // batch, lm.fresh_lora(INITIAL_SEED)
    layout = TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (16, 16))
    preset = CheckpointPreset(
        warm_steps=steps - 1, warm_rate=CHECKPOINT_RATE, kept_steps=1, kept_rate=CHECKPOINT_RATE, batch=batch
    )
    origin = flatten(start.tensors, layout)

    def ours() -> Trained:
        laps = _Laps(lm.device)
        kept, _ = collect(lm, rows, layout, preset=preset, initial_seed=INITIAL_SEED, seed=0, progress=laps)
        return Trained(laps.seconds, replace(start, tensors=unflatten(origin + kept[-1].float(), layout)))

    features = [
        {
            "input_ids": row.tokens,
            "labels": [IGNORED] * row.spans[0].scored + row.tokens[row.spans[0].scored : row.spans[0].end],
        }
        for row in rows
    ]

    def loss(weights: LoraWeights | None) -> float:
        parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        with lm.adapted(weights):
            each = [float(answer_loss(lm, part, gradient=False)) for part in parts]
        counts = [sum(row.spans[0].end - row.spans[0].scored for row in part) for part in parts]
        return sum(a * n for a, n in zip(each, counts, strict=True)) / sum(counts)

    tokens = sum(len(row.tokens) for row in rows) * (steps - 1) / steps
    return Loop(ours, lambda: _by_trainer(lm, features, batch, CHECKPOINT_RATE, weighted=False), loss, tokens)


def surprising(lm: LanguageModel, prompts: Sequence[str], wanted: int) -> list[str]:
    """Return the first prompts that TTL would train on: those whose loss is above its threshold.

    Args:
        lm: the model, undressed.
        prompts: to choose from.
        wanted: how many at most.
    """
    chosen: list[str] = []
    for i in range(0, len(prompts), 32):
        part = [prompt for prompt in prompts[i : i + 32] if len(lm.encode(prompt)) > 1]
        losses = prompt_losses(lm, [ending(lm, prompt, MAX_TOKENS) for prompt in part])
        chosen += [prompt for prompt, loss in zip(part, losses.tolist(), strict=True) if loss > LOG_P0 + 0.2]
        if len(chosen) >= wanted:
            break
    return chosen[:wanted]


def ttl_loop(lm: LanguageModel, prompts: list[str], batch: int) -> Loop:
    """Return TTL's training: the prompts themselves.

    Args:
        lm: the model.
        prompts: a multiple of ``batch``, above TTL's threshold.
        batch: prompts a step.
    """
    steps, start = len(prompts) // batch, lm.fresh_lora(INITIAL_SEED)
    settings = TTL(family="TTL", ttl_steps=steps, learning_rate=TTL_RATE, batch_size=batch, shuffle_data=False)
    ids = [ending(lm, prompt, MAX_TOKENS) for prompt in prompts]

    def ours() -> Trained:
        laps = _Laps(lm.device)
        weights = train_ttl(lm, prompts, settings, start, 0, progress=laps)
        return Trained(laps.seconds, weights)

    def loss(weights: LoraWeights | None) -> float:
        with lm.adapted(weights):
            return float(prompt_losses(lm, ids).mean())

    features = [{"input_ids": row, "labels": row} for row in ids]
    tokens = sum(map(len, ids)) * (steps - 1) / steps
    return Loop(ours, lambda: _by_trainer(lm, features, batch, TTL_RATE, weighted=True), loss, tokens)

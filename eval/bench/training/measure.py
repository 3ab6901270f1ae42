"""``training``: our LoRA loops, of checkpoints and of TTL, against the public trainer's plain loop.

Both sides start from one adapter, see each row once, in batches of one size, and step as often. What counts is real
tokens a second, padding not counted, from the end of the first step to the end of the last. A loss before and after,
measured by one function on one set of rows, says whether both learnt the same.
"""

from collections.abc import Sequence

from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.progress import Progress, silent
from cao.strategies.ttl import TTL
from cao.types import Record
from eval.bench.measure import BenchResult, Figure, Line, machine, peak_bytes, ratio
from eval.bench.training.loops import INITIAL_SEED, TTL_RATE, Loop, Trained, checkpoint_loop, ttl_loop
from tools.apply_strategy.ttl import train_ttl


class Sides(Record):
    """A value of each side."""

    ours: float
    theirs: float


class Losses(Record):
    """Nats a token: before any training, and after each side's."""

    before: float
    ours: float
    theirs: float


class LoopResult(Record):
    """One training on both sides.

    Attributes:
        ratio: the trainer's time over ours, None where the machine was too noisy.
        spread: of the ratio.
        tokens_per_s: real tokens.
        loss: whether both learnt the same.
    """

    ratio: float | None
    spread: float
    tokens_per_s: Sides
    loss: Losses


class TrainingResult(BenchResult):
    """Our LoRA loops against the public trainer.

    Attributes:
        batch: rows a step.
        steps: loop → its steps.
        ratios: loop → the trainer's time over ours.
        noisy: loops that scatter too widely.
        loops: loop → all of its figures.
        ttl_memory_mb: number of prompts → by how much the process grew at most.
    """

    batch: int
    steps: dict[str, int]
    ratios: dict[str, float | None]
    noisy: list[str]
    loops: dict[str, LoopResult]
    ttl_memory_mb: dict[str, float | None]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        lines = []
        for name, loop in self.loops.items():
            over, speed, loss = Figure(loop.ratio or 0.0, loop.spread), loop.tokens_per_s, loop.loss
            beside = "" if over.noisy else f"; {speed.ours:.0f} against {speed.theirs:.0f} tokens a second"
            lines.append((f"{name}, {self.steps[name]} steps of {self.batch}", over.text() + beside))
            learnt = f"{loss.before:.4f} before, {loss.ours:.4f} by ours, {loss.theirs:.4f} by the trainer"
            lines.append((f"{name}: loss in nats a token", learnt))
        memory = ", ".join(
            f"{count}: {'not known here' if value is None else f'{value:.0f} MB'}"
            for count, value in self.ttl_memory_mb.items()
        )
        return [*lines, ("TTL's memory by number of prompts", memory)]


def compare(loop: Loop, repetitions: int, progress: Progress = silent) -> LoopResult:
    """Measure one training by turns.

    Args:
        loop: what both sides do.
        repetitions: of each side.
        progress: called after each.
    """
    sides = {"ours": loop.ours, "theirs": loop.theirs}
    took: dict[str, list[float]] = {name: [] for name in sides}
    last: dict[str, Trained] = {}
    for turn in range(repetitions):
        for name, train in sides.items():
            last[name] = train()
            took[name].append(last[name].seconds)
        progress("repetition", turn + 1, repetitions)
    over = ratio(took["theirs"], took["ours"])
    speed = {name: round(loop.tokens / sorted(values)[len(values) // 2], 1) for name, values in took.items()}
    losses = {name: round(loop.loss(trained.weights), 4) for name, trained in last.items()}
    return LoopResult(
        ratio=over.stated,
        spread=over.scatter,
        tokens_per_s=Sides(**speed),
        loss=Losses(before=round(loop.loss(None), 4), **losses),
    )


def ttl_memory(lm: LanguageModel, prompts: list[str], counts: Sequence[int], batch: int) -> dict[str, float | None]:
    """Return by how many MB the process grew at most in two steps of TTL, by the number of prompts.

    Args:
        lm: the model.
        prompts: repeated until there are enough.
        counts: numbers of prompts, ascending.
        batch: prompts a step.
    """
    grown_mb: dict[str, float | None] = {}
    start = lm.fresh_lora(INITIAL_SEED)
    settings = TTL(family="TTL", ttl_steps=2, learning_rate=TTL_RATE, batch_size=batch, shuffle_data=True)
    for count in counts:
        many = (prompts * (count // len(prompts) + 1))[:count]
        grown = peak_bytes(lambda many=many: train_ttl(lm, many, settings, start, 0))  # type: ignore[misc]
        grown_mb[str(count)] = None if grown is None else round(grown / 2**20, 1)
    return grown_mb


def bench(
    lm: LanguageModel,
    rows: list[Row],
    prompts: list[str],
    *,
    batch: int,
    repetitions: int,
    memory_counts: Sequence[int] = (32, 128, 512, 2048),
    progress: Progress = silent,
) -> TrainingResult:
    """Measure both loops.

    Args:
        lm: the model, undressed.
        rows: questions with answers, a multiple of ``batch``.
        prompts: above TTL's threshold, a multiple of ``batch``.
        batch: rows a step.
        repetitions: of each side.
        memory_counts: numbers of prompts that TTL's memory is measured with.
        progress: called after each repetition.
    """
    described = machine()
    ttl_memory(lm, prompts, memory_counts[:1], batch)  # what grows once, whatever the number of prompts
    memory = ttl_memory(lm, prompts, memory_counts, batch)
    loops = {
        "checkpoints": compare(checkpoint_loop(lm, rows, batch), repetitions, progress),
        "ttl": compare(ttl_loop(lm, prompts, batch), repetitions, progress),
    }
    return TrainingResult(
        bench="training",
        machine=described,
        repetitions=repetitions,
        batch=batch,
        steps={"checkpoints": len(rows) // batch, "ttl": len(prompts) // batch},
        ratios={name: loop.ratio for name, loop in loops.items()},
        noisy=[name for name, loop in loops.items() if loop.ratio is None],
        loops=loops,
        ttl_memory_mb=memory,
    )

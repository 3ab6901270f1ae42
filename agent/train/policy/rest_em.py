"""ReST-EM: sample strategies on-policy, keep those that improve the model, fine-tune on them, and again.

The algorithm alone: who draws, what a strategy is worth and how a model is fine-tuned are passed in. Every sample is a
line of a file, written when its reward is known, so that a kill costs the sample under way.

Source: CAO-LLM §2.4, G.5 (20 samples a context, binary reward, two iterations); Singh et al., Beyond Human Data (2023).
The sequential test in place of a fixed number is this project's.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cao.configuration import Count
from cao.errors import InputError
from cao.files import append_line, canonical_json, opened_line, sealed_line, sha256_bytes, whole_lines
from cao.progress import Progress, silent
from cao.strategies import Strategy
from cao.strategy import StrategyRejectedError, parse_strategy, restore_strategy
from cao.types import Comparison, Record, StrategyFields

CHUNK = 5
"""Texts drawn together; how many more are drawn is decided between two."""
RAW_KEPT = 2_000


class Judged(Record):
    """What a strategy is worth in a situation.

    Attributes:
        improved: whether it improves the metric over the current model.
        reason: why, or why not.
        comparison: with the current model, None where it could not be measured.
        questions: reward questions answered for it.
        members: share of its adapters that answered them, where it was dropped before the others did.
        seconds: what it cost, s.
        cached: whether it was known already.
    """

    improved: bool
    reason: str
    comparison: Comparison | None = None
    questions: int = 0
    members: float = 1.0
    seconds: float = 0.0
    cached: bool = False


class Sample(Record):
    """One text that the policy wrote in one situation.

    Attributes:
        iteration: 0 is that of the policy before any: untrained, or as the grid taught it.
        situation: its name.
        number: counts from 0 in each situation.
        raw: the text, its beginning where it is long.
        valid: whether it is a strategy as it stands.
        strategy: its canonical JSON object, None where it is none.
        reward: 1 where it improves the metric, else 0.
        judged: what it is worth, None where it is no strategy.
        reason: why it is no strategy, empty where it is one.
    """

    iteration: int
    situation: str
    number: int
    raw: str
    valid: bool
    strategy: StrategyFields | None
    reward: int
    judged: Judged | None
    reason: str = ""

    @property
    def worth(self) -> float:
        """What its change of the model is worth (``Comparison.worth``); 0 where it was not measured."""
        comparison = self.judged.comparison if self.judged else None
        return comparison.worth if comparison else 0.0


class Sampling(Record):
    """How many samples a situation gets.

    Attributes:
        most: at most, and exactly where it is not sequential.
        sequential: stop as soon as the test of ``verdict`` has decided.
        seed: of the draws.
        rich: the share of improving samples at which a situation counts as one with winning strategies.
        poor: the share at which it counts as one without.
        error: probability of either mistake.
    """

    most: Count = 20
    sequential: bool = False
    seed: int = 0
    rich: float = 0.25
    poor: float = 0.05
    error: float = 0.1


def verdict(rewards: Sequence[int], sampling: Sampling) -> str | None:
    """Return ``rich`` or ``poor`` where the samples have decided it, else None.

    Args:
        rewards: 0 and 1, in the order of the draws.
        sampling: the two shares and the error.

    Source: Wald's sequential probability ratio test (1945).
    """
    won, bound = sum(rewards), math.log((1 - sampling.error) / sampling.error)
    lost = len(rewards) - won
    ratio = won * math.log(sampling.rich / sampling.poor) + lost * math.log((1 - sampling.rich) / (1 - sampling.poor))
    return "rich" if ratio >= bound else "poor" if ratio <= -bound else None


class SampleLog:
    """The file of all samples: JSON lines, each flushed to the disk before the next sample is drawn."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that a kill cut off is dropped.

        Raises:
            InputError: a line is no sample.
        """
        self.path = path
        self.samples: list[Sample] = []
        for number, line in enumerate(whole_lines(path), 1):
            try:
                self.samples.append(Sample.model_validate_json(opened_line(line)))
            except ValueError:
                raise InputError(f"{path}:{number}: no sample; delete the folder to begin again") from None

    def of(self, iteration: int, situation: str) -> list[Sample]:
        """Return the samples of one situation in one iteration, in their order."""
        return [s for s in self.samples if (s.iteration, s.situation) == (iteration, situation)]

    def add(self, sample: Sample) -> None:
        """Write one sample down."""
        self.samples.append(sample)
        append_line(self.path, sealed_line(sample.model_dump_json()))


Draw = Callable[[str, int, int], Sequence[str]]
"""(situation, how many, seed) → raw texts; equal arguments give equal texts."""

Judge = Callable[[Mapping[str, Sequence[Strategy]]], Iterable[tuple[str, Sequence[Judged]]]]
"""Situation → strategies to judge there; yields each situation with what its strategies are worth, in any order."""


def collect(
    situations: Sequence[str],
    iteration: int,
    draw: Draw,
    judge: Judge,
    sampling: Sampling,
    log: SampleLog,
    progress: Progress = silent,
) -> None:
    """Sample every situation; what the log holds is not sampled again.

    In a round, every situation that needs more samples gets a chunk of them, so that many can be judged side by side.

    Args:
        situations: their names.
        iteration: 0 for the policy before any.
        draw: the policy.
        judge: the reward.
        sampling: how many.
        log: where samples are kept.
        progress: called after each situation of a round.

    Source: CAO-LLM §2.4, G.5.
    """
    while waiting := [name for name in situations if not _enough(log.of(iteration, name), sampling)]:
        drawn: dict[str, list[Sample]] = {}
        for done, name in enumerate(waiting, 1):
            drawn[name] = _chunk(name, iteration, draw, sampling, len(log.of(iteration, name)))
            progress(f"iteration {iteration}: drawing", done, len(waiting))
        asked = {
            name: [restore_strategy(sample.strategy) for sample in samples if sample.strategy is not None]
            for name, samples in drawn.items()
        }
        for done, (name, worth) in enumerate(judge(asked), 1):
            rewards = iter(worth)
            for sample in drawn[name]:
                judged = next(rewards) if sample.valid else None
                reward = int(judged is not None and judged.improved)
                log.add(sample.model_copy(update={"judged": judged, "reward": reward}))
            progress(f"iteration {iteration}: judging", done, len(waiting))


def _enough(samples: Sequence[Sample], sampling: Sampling) -> bool:
    if len(samples) >= sampling.most:
        return True
    between = len(samples) % CHUNK == 0
    return sampling.sequential and between and verdict([s.reward for s in samples], sampling) is not None


def _chunk(name: str, iteration: int, draw: Draw, sampling: Sampling, known: int) -> list[Sample]:
    """Return the next samples of a situation, not judged yet; a chunk that a kill cut short is drawn again."""
    start = known - known % CHUNK
    seed = int(sha256_bytes(f"{sampling.seed}:{iteration}:{name}:{start}".encode())[:8], 16)
    texts = draw(name, min(CHUNK, sampling.most - start), seed)
    return [_sample(raw, iteration, name, number) for number, raw in enumerate(texts[known - start :], known)]


def _sample(raw: str, iteration: int, situation: str, number: int) -> Sample:
    strategy, reason = None, ""
    try:
        strategy = parse_strategy(raw).canonical()
    except StrategyRejectedError as error:
        reason = str(error)
    return Sample(
        iteration=iteration,
        situation=situation,
        number=number,
        raw=raw[:RAW_KEPT].encode("utf-8", "replace").decode(),
        valid=strategy is not None,
        strategy=strategy,
        reward=0,
        judged=None,
        reason=reason,
    )


def kept(samples: Sequence[Sample], most: int) -> dict[str, list[Sample]]:
    """Return the samples that improved the model, situation by situation: one a strategy, the best ``most`` by gain.

    So neither an easy situation outweighs the others, nor what the policy says most often anyway what gains more.

    Args:
        samples: of one iteration.
        most: samples of one situation.
    """
    won: dict[str, dict[str, Sample]] = {}
    for sample in samples:
        if sample.reward and sample.strategy is not None:
            won.setdefault(sample.situation, {}).setdefault(canonical_json(sample.strategy), sample)
    return {name: sorted(each.values(), key=lambda one: one.worth, reverse=True)[:most] for name, each in won.items()}

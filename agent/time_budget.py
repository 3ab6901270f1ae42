"""``--minutes``: a run fits itself to a time budget on the machine at hand, and keeps an eye on the clock.

Before it starts, it times a few of its own support prompts, predicts what every size would take and chooses the largest
ones that fit. While it goes on, an attempt is begun, applied or measured further only while there is time left for it
and for the test part. So what a run with a budget finds depends on the machine; what it chose is in its record.
"""

import math
import time
from dataclasses import dataclass, field

from agent.config import RunConfig
from agent.plan import CHARACTERS_PER_TOKEN, Speed, part_seconds, stage_seconds, total_seconds
from agent.wording import count
from cao.errors import InputError
from cao.language_model import LanguageModel
from cao.strategy import TTL, TTS, Latent, Strategy
from cao.tasks.base import Task
from cao.tasks.parts import Splits
from cao.types import AdaptedModel, Example, Protocol
from tools.apply_strategy.tts import ROUTING
from tools.evaluate import evaluate

PLANNED_SHARE = 0.85
"""Share of the budget that is planned with; the rest is for what takes longer than it should."""
SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.33, 0.25)
"""What reward and test part are tried at, of what was asked for."""
LEAST = 24
"""Questions of a part at least: the first block of a race."""
TIMED = {"likelihood": (4, 12), "generate": (1, 2)}
"""Support prompts that are answered to warm up, and those that are timed."""
TRAINING_OVER_READING = 3.0
"""A step of training reads forwards and backwards."""
GENERATING_SECONDS = 0.3
"""Of one adapter."""


@dataclass
class Clock:
    """How much of a run's time is left.

    Attributes:
        seconds: the budget, None for none.
        spent: by earlier processes of the same run.
        began: of this process, by ``time.monotonic``.
    """

    seconds: float | None = None
    spent: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left; infinite without a budget."""
        used = self.spent + time.monotonic() - self.began
        return math.inf if self.seconds is None else self.seconds - used


def timed_speed(speed: Speed, lm: LanguageModel, task: Task, support: list[Example], protocol: Protocol) -> Speed:
    """Return the speed that a few support prompts show; their answers are thrown away.

    Args:
        speed: what the measured rates let expect.
        lm: the model, undressed.
        task: how questions are asked.
        support: prompts that nothing is measured on.
        protocol: how answers are judged.
    """
    warm, count = TIMED[protocol]
    evaluate(task, support[:warm], AdaptedModel(), protocol, lm=lm)
    chosen = support[-count:]
    started = time.perf_counter()
    evaluate(task, chosen, AdaptedModel(), protocol, lm=lm)
    took = time.perf_counter() - started
    return speed.times(took / part_seconds(speed, task, chosen, protocol))


@dataclass(frozen=True)
class Fit:
    """What a run does in its time.

    Attributes:
        config: with sizes that fit.
        seconds: what the run is expected to take, least and most.
    """

    config: RunConfig
    seconds: tuple[float, float]

    def told(self) -> str:
        """Return it in one line."""
        config, (low, high) = self.config, self.seconds
        return (
            f"{count(config.minutes or 0, 'minute')}: {config.reward} reward and {config.test} test questions, at most "
            f"{count(config.max_attempts, 'attempt')}, {low:.0f} to {high:.0f} s here"
        )


def fit(
    config: RunConfig, speed: Speed, task: Task, splits: Splits, protocol: Protocol, starts: int, left: float
) -> Fit:
    """Return the largest sizes that fit into the time.

    Args:
        config: of the run, with a budget.
        speed: of this machine.
        task: what is adapted to.
        splits: the questions that were asked for.
        protocol: how answers are judged.
        starts: models that are measured before the loop.
        left: seconds of the budget that are left.

    Raises:
        InputError: not even the smallest run fits; the message says what does.
    """
    each = {name: part_seconds(speed, task, getattr(splits, name), protocol) for name in ("reward", "test")}
    least = math.inf
    for share in SHARES:
        sizes = {name: min(getattr(config, name), max(LEAST, round(share * getattr(config, name)))) for name in each}
        reward, test = (each[name] * sizes[name] / getattr(config, name) for name in each)
        stages = stage_seconds(speed, config, reward, test, starts=starts)
        stages["start-up"] = (0.0, 0.0)  # it is over
        for attempts in range(config.max_attempts, 0, -1):
            low, high = total_seconds(stages, attempts)
            usual = (total_seconds(stages, attempts)[0] + high) / 2
            if usual <= PLANNED_SHARE * left:
                chosen = config.model_copy(update={**sizes, "max_attempts": attempts})
                return Fit(chosen, (low, min(high, left)))
            least = min(least, usual)
            if attempts <= math.ceil(share * config.max_attempts):
                break  # fewer questions before still fewer attempts
    assert config.minutes is not None
    needed = (60 * config.minutes - left + least) / PLANNED_SHARE / 60
    raise InputError(
        f"--minutes {config.minutes:g} is too short here; the smallest run takes about {needed:.1f} minutes"
    )


@dataclass(frozen=True)
class Prices:
    """What is still to be paid for in a run's time.

    Attributes:
        speed: of this machine.
        each: seconds in which the deployed model answers one question.
        test: questions of the test part.
    """

    speed: Speed
    each: float
    test: int

    def reserve(self, times: float = 1.0) -> float:
        """Return the seconds to set aside for the test part, by the deployed model and by an adapted one.

        Args:
            times: how many times as long the adapted one takes.
        """
        return (1 + times) * self.each * self.test

    def attempt(self) -> float:
        """Return the seconds of the cheapest attempt: a proposal and a first block."""
        return self.speed.proposal + LEAST * self.each

    def whole(self, strategy: Strategy, prompts: list[str]) -> float:
        """Return the seconds of applying a strategy, of a first block and of the test part with it.

        Args:
            strategy: a valid one.
            prompts: the support prompts.
        """
        tokens = sum(map(len, prompts)) / len(prompts) / CHARACTERS_PER_TOKEN
        applied, times = 0.0, 1.0
        if isinstance(strategy, TTL):
            passes = TRAINING_OVER_READING * strategy.ttl_steps * strategy.batch_size + len(prompts)
            applied = passes * tokens * (self.speed.read + self.speed.scored)
        elif isinstance(strategy, TTS):
            applied = GENERATING_SECONDS * strategy.num_prompt_batches
            times = 1.2 if strategy.method in ROUTING else float(strategy.num_prompt_batches)
        elif isinstance(strategy, Latent):
            times += (1 + strategy.slot_steps / 10) * tokens * self.speed.scored / max(self.each, 1e-9)
        return applied + times * LEAST * self.each + self.reserve(times)

"""``--minutes``: a run times the machine at hand and keeps an eye on the clock.

Before it starts, it times a few of its own support prompts, and ``agent.budget.fit`` chooses the sizes from that.
While it goes on, an attempt is begun, applied or measured further only while there is time left for it and for the
test part. So what a run with a budget finds depends on the machine; what it chose is in its record.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.budget.fit import LEAST
from agent.budget.plan import CHARACTERS_PER_TOKEN, Speed, part_seconds
from cao.model.language_model import LanguageModel
from cao.strategies import Strategy
from cao.strategies.base import Pace
from cao.tasks.base import Task
from cao.types import AdaptedModel, AnswerProtocol, Example
from tools.evaluate import evaluate

TIMED = {"likelihood": (4, 12), "generate": (1, 2)}
"""Support prompts that are answered to warm up, and those that are timed."""


@dataclass
class Clock:
    """How much of a run's time is left.

    Attributes:
        seconds: the budget, None for none.
        spent: by the steps that earlier processes of the same run ended, seconds.
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


def timed_speed(speed: Speed, lm: LanguageModel, task: Task, support: list[Example], protocol: AnswerProtocol) -> Speed:
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


def pace_of(speed: Speed, prompts: Sequence[str], each: float, reward: int, test: int, pool: int = 0) -> Pace:
    """Return what the price of a strategy depends on in a run.

    Args:
        speed: of this machine.
        prompts: the support prompts.
        each: seconds in which the deployed model answers one question.
        reward: questions of the reward part.
        test: questions of the test part.
        pool: adapters at hand besides the current one.
    """
    tokens = sum(map(len, prompts)) / len(prompts) / CHARACTERS_PER_TOKEN
    return Pace(len(prompts), tokens, speed.read, speed.scored, each, reward, test, pool)


@dataclass(frozen=True)
class Prices:
    """What is still to be paid for in a run's time.

    Attributes:
        speed: of this machine.
        pace: what the price of a strategy depends on.
        steps: passes of a question by the models between the deployed one and the next candidate, each asked on test.
        accepted: the strategies that the next candidate builds on.
    """

    speed: Speed
    pace: Pace
    steps: float = 0.0
    accepted: tuple[Strategy, ...] = ()

    def reserve(self, times: float = 1.0) -> float:
        """Return the seconds in which the test part is answered: by the deployed model, each step so far, a candidate.

        Args:
            times: how many times as long as the deployed model the candidate takes.
        """
        return (1 + times) * self.pace.each * self.pace.test + self.settled

    @property
    def settled(self) -> float:
        """Seconds of the test part by the models on the way to the best so far."""
        return self.steps * self.pace.each * self.pace.test

    def attempt(self) -> float:
        """Return the seconds of the cheapest attempt: a proposal and a first block."""
        return self.speed.proposal + LEAST * self.pace.each

    def whole(self, strategy: Strategy) -> float:
        """Return the seconds of applying a strategy, of a first block and of the test part with it."""
        price = strategy.price(self.pace)
        return price.seconds + price.times * LEAST * self.pace.each + self.again(strategy) + self.reserve(price.times)

    def again(self, *candidate: Strategy) -> float:
        """Return the seconds of making the model once more for the test part; 0 where what was made serves it.

        Where one strategy is transductive, all of them are applied once more, in their order.

        Args:
            candidate: the strategy that may be accepted besides, where there is one.
        """
        strategies = (*self.accepted, *candidate)
        if not any(strategy.transductive for strategy in strategies):
            return 0.0
        prices = [strategy.price(self.pace) for strategy in strategies]
        return sum(price.again or price.seconds for price in prices)

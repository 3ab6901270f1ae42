"""``--minutes``: the sizes of a run that fit into a time budget on the machine at hand.

What every size would take is predicted, and the largest ones that fit are chosen. Nothing is computed here, so that
``--dry-run`` answers at once.
"""

import math
from dataclasses import dataclass

from agent.budget.plan import Speed, part_seconds, stage_seconds, total_seconds
from agent.config import RunConfig
from agent.record.wording import count
from cao.errors import InputError
from cao.tasks.base import Task
from cao.tasks.splits import Splits
from cao.types import AnswerProtocol

PLANNED_SHARE = 0.85
"""Share of the budget that is planned with; the rest is for what takes longer than it should."""
SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.33, 0.25)
"""What reward and test part are tried at, of what was asked for."""
LEAST = 24
"""Questions of a part at least: the first block of a race."""


@dataclass(frozen=True)
class Fit:
    """What a run does in its time.

    Attributes:
        config: with sizes that fit.
        seconds: what the run is expected to take, least and most.
    """

    config: RunConfig
    seconds: tuple[float, float]

    def sentence(self) -> str:
        """Return it in one line."""
        config, (low, high) = self.config, self.seconds
        return (
            f"{count(config.minutes or 0, 'minute')}: {config.reward} reward and {config.test} test questions, at most "
            f"{count(config.max_attempts, 'attempt')}, {low:.0f} to {high:.0f} s here"
        )


def fit(
    config: RunConfig, speed: Speed, task: Task, splits: Splits, protocol: AnswerProtocol, starts: int, left: float
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
    of_reward, of_test = (part_seconds(speed, task, part, protocol) for part in (splits.reward, splits.test))
    least = math.inf
    for share in SHARES:
        reward, test = (min(size, max(LEAST, round(share * size))) for size in (config.reward, config.test))
        seconds = of_reward * reward / config.reward, of_test * test / config.test
        stages = stage_seconds(speed, config, *seconds, starts=starts)
        stages["start-up"] = (0.0, 0.0)  # it is over
        for attempts in range(config.max_attempts, 0, -1):
            low, high = total_seconds(stages, attempts)
            usual = (total_seconds(stages, attempts)[0] + high) / 2
            if usual <= PLANNED_SHARE * left:
                chosen = config.model_copy(update={"reward": reward, "test": test, "max_attempts": attempts})
                return Fit(chosen, (low, min(high, left)))
            least = min(least, usual)
            if attempts <= math.ceil(share * config.max_attempts):
                break  # fewer questions before still fewer attempts
    assert config.minutes is not None
    needed = (60 * config.minutes - left + least) / PLANNED_SHARE / 60
    raise InputError(
        f"--minutes {config.minutes:g} is too short here; the smallest run takes about {needed:.1f} minutes"
    )

"""Policies led through the loop: attempts side by side, each policy with the history of its own.

Rewards are remembered in the situations, so that a strategy two policies propose is tried once.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agent.train.policy.rest_em import Judged
from agent.train.policy.rollouts import Rollouts
from agent.train.policy.situations import Situation
from cao.files import canonical_json, sha256_bytes
from cao.progress import Progress
from cao.strategies import Strategy
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.types import Trial
from eval.policies.entrants import Always, Entrant
from eval.policies.results import Cell, Cells

ATTEMPTS = 4
"""Attempts of one loop at most."""


@dataclass
class Loop:
    """One policy in one situation.

    Attributes:
        first: of each first attempt, whether it improves the model.
        trials: the attempts of its loop.
        adopted: the strategy that improved the model, None where none did.
        gain: what it is worth on the reward part.
        finished: whether the loop is over.
    """

    first: list[bool] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    adopted: Strategy | None = None
    gain: Judged | None = None
    finished: bool = False


Loops = dict[tuple[str, str], Loop]
"""(policy, situation) → its loop."""

Tests = dict[tuple[str, str], Judged]
"""(situation, strategy's canonical JSON) → what it changes on the test part."""


def lead(rollouts: Rollouts, rows: Sequence[Entrant], situations: Mapping[str, Situation], progress: Progress) -> Loops:
    """Return every policy's loop in every situation that it speaks of, attempt by attempt side by side."""
    loops = {
        (row.name, name): Loop()
        for row in rows
        for name, situation in situations.items()
        if row.speaks_of(situation.bench.task.name)
    }
    entrant = {row.name: row for row in rows}
    for attempt in range(1, ATTEMPTS + 1):
        texts: dict[tuple[str, str], list[str]] = {}
        waiting = [key for key, loop in loops.items() if not loop.finished]
        for done, (who, name) in enumerate(waiting, 1):
            row, n = entrant[who], entrant[who].draws if attempt == 1 else 1
            seed = int(sha256_bytes(f"{who}:{name}:{attempt}".encode())[:8], 16)
            texts[who, name] = row.propose(situations[name], loops[who, name].trials, n, seed)
            progress(f"attempt {attempt}: proposals", done, len(waiting))
        judged = _worth(rollouts, texts, f"attempt {attempt}: judging", progress)
        for who, name in waiting:
            _enter(loops[who, name], [(text, judged[name].get(text)) for text in texts[who, name]])
            if attempt == ATTEMPTS or isinstance(entrant[who], Always):
                loops[who, name].finished = True  # a policy that always says the same has no second attempt
    return loops


def _worth(
    rollouts: Rollouts, texts: Mapping[tuple[str, str], Sequence[str]], label: str, progress: Progress
) -> dict[str, dict[str, tuple[Strategy, Judged]]]:
    """Return situation → text → the strategy it is and what that is worth; texts that are none are left out."""
    asked: dict[str, dict[str, Strategy]] = {}
    for (_, name), several in texts.items():
        read = asked.setdefault(name, {})
        for text in several:
            with suppress(StrategyRejectedError):
                read[text] = parse_strategy(text)
    known: dict[str, dict[str, tuple[Strategy, Judged]]] = {}
    for name, worth in rollouts.judge({name: list(read.values()) for name, read in asked.items()}):
        known[name] = {
            text: (strategy, judged) for (text, strategy), judged in zip(asked[name].items(), worth, strict=True)
        }
        progress(label, len(known), len(asked))
    return known


def _enter(loop: Loop, worth: Sequence[tuple[str, tuple[Strategy, Judged] | None]]) -> None:
    """Enter what came of a policy's texts; the first of them is the loop's next attempt."""
    if not loop.first:
        loop.first = [known is not None and known[1].improved for _, known in worth]
    text, known = worth[0]
    attempt = len(loop.trials) + 1
    if known is None:
        reason = f"rejected: {_refusal(text)}"
        loop.trials.append(Trial(attempt=attempt, raw=text[:2_000], accepted=False, reason=reason))
        return
    strategy, judged = known
    if any(trial.strategy == strategy.canonical() for trial in loop.trials):
        reason = "rejected: already tried in this run"
        loop.trials.append(Trial(attempt=attempt, raw=text, accepted=False, reason=reason))
        return
    loop.trials.append(
        Trial(
            attempt=attempt,
            strategy=strategy.canonical(),
            accepted=judged.improved,
            reason=judged.reason,
            comparison=judged.comparison,
        )
    )
    if judged.improved:
        loop.adopted, loop.gain, loop.finished = strategy, judged, True


def _refusal(text: str) -> str:
    """Return why a text is no strategy, in a run's words."""
    try:
        parse_strategy(text)
    except StrategyRejectedError as error:
        return str(error)
    raise AssertionError(text)


def oracle(points: Sequence[Strategy], worth: Sequence[Judged]) -> Loop:
    """Return the loop of one who knows the landscape: the point whose change is worth most of those that improve."""
    better = [
        (judged.comparison.worth, strategy, judged)
        for strategy, judged in zip(points, worth, strict=True)
        if judged.improved and judged.comparison
    ]
    if not better:
        return Loop(first=[False], finished=True)
    _, strategy, judged = max(better, key=lambda one: one[0])
    trial = Trial(attempt=1, strategy=strategy.canonical(), accepted=True, reason=judged.reason)
    return Loop([True], [trial], strategy, judged, finished=True)


def tested(rollouts: Rollouts, loops: Loops, progress: Progress) -> Tests:
    """Return situation and strategy → what it changes on the test part, for what loops adopted."""
    asked: dict[str, dict[str, Strategy]] = {}
    for (_, name), loop in loops.items():
        if loop.adopted is not None:
            asked.setdefault(name, {})[canonical_json(loop.adopted.canonical())] = loop.adopted
    tests: Tests = {}
    work = {name: list(strategies.values()) for name, strategies in asked.items()}
    for done, (name, worth) in enumerate(rollouts.judge(work, "test"), 1):
        tests.update({(name, key): judged for key, judged in zip(asked[name], worth, strict=True)})
        progress("test parts", done, len(work))
    return tests


def cells(loops: Loops, tests: Mapping[tuple[str, str], Judged]) -> dict[str, Cells]:
    """Return policy → situation → what came of it, gains as (accuracy, log-loss) and 0 where nothing was adopted."""
    by_policy: dict[str, Cells] = {}
    for (who, name), loop in loops.items():
        test = tests.get((name, canonical_json(loop.adopted.canonical()))) if loop.adopted else None
        by_policy.setdefault(who, {})[name] = Cell(
            first=(sum(loop.first), len(loop.first)),
            improved=loop.adopted is not None,
            attempts=len(loop.trials) if loop.adopted else ATTEMPTS,
            adopted=loop.adopted.canonical() if loop.adopted else None,
            reward=_gain(loop.gain),
            test=_gain(test),
        )
    return by_policy


def _gain(judged: Judged | None) -> tuple[float, float]:
    change = judged.comparison if judged else None
    return (change.accuracy_change, change.loss_change) if change else (0.0, 0.0)

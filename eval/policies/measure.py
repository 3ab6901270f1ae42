"""Policies judged side by side: what each proposes in the same situations, and what comes of it.

A situation is a task and a seed at the point where a run's loop begins, with the task's usual support, reward and
test parts. In each, every policy is asked for first attempts, and then led through the loop: an attempt that fails
enters the history that it sees. The best point of the exhaustive grid is the oracle.

Source: CAO-LLM §2.4, G.5, G.6; the comparison is this project's.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from agent.config import RunConfig
from agent.loop.reward import measure_part
from agent.train.engine.engines import check_engine
from agent.train.engine.settings import EngineSettings
from agent.train.policy.rest_em import Judged
from agent.train.policy.rollouts import Rollouts, open_rollouts
from agent.train.policy.situations import Situation
from cao.errors import NotApplicableError
from cao.model.adapters import adapter_sha256
from cao.progress import Progress
from cao.strategies import FAMILIES, Strategy
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.tasks.same_problems import saw
from cao.types import StrategyFields
from eval.measured import measured_with
from eval.options import TablesOptions
from eval.policies.entrants import Entrant, Writing, entrants
from eval.policies.ground import laid_out
from eval.policies.loops import ATTEMPTS, Loops, Tests, cells, lead, oracle, tested
from eval.policies.results import Family, PoliciesResult, TaskRole, Untouched
from eval.policies.sources import source_of
from eval.policies.verdicts import ORACLE
from policies.grid import grid
from policies.local import LocalPolicy
from tools.evaluate.statistics import summarise

DRAWS = 4
"""First attempts of a policy that draws, in each situation."""

FREE = 10
"""Texts written without the grammar for each task, in its first seed."""

ORACLE_IS = "the best of the exhaustive grid on the reward part"


def measure(options: TablesOptions, engine: EngineSettings, command: str, progress: Progress) -> PoliciesResult:
    """Measure everything of the table; what a strategy is worth in a situation is kept, so a kill costs one of them.

    Args:
        options: what is measured: the policies of trainings or, without any, what ships.
        engine: what runs the workers.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a folder that cannot be used, or another process works in it.
        UnavailableError: the training is not finished, or data or model are not at hand.
    """
    check_engine(engine)
    source = source_of(options)
    config = source.plan.config
    with laid_out(source.plan, progress) as situations:
        lm = next(iter(situations.values())).bench.lm
        learnt, tasks = source.learnt(lm), [situation.bench.task.name for situation in situations.values()]
        rows = entrants(lm, config.policy_settings, learnt, DRAWS, source.texts)
        with open_rollouts(engine, options.workers, source.plan, situations, progress) as rollouts:
            points, landscape, loops, tests = _measured(rollouts, rows, situations, progress)
        untouched = {name: _untouched(situation) for name, situation in situations.items()}
        valid = {row.name: _validity(row, config, situations) for row in rows if isinstance(row, Writing)}
    return PoliciesResult(
        **dict(measured_with(lm, command, "policies")),
        trainings=source.reports,
        practised=tuple(sorted(learnt.practised)),
        policies={name: adapter_sha256(adapter) for name, adapter in learnt.adapters.items()},
        rule=config.accept,
        reward=config.reward,
        support=config.support,
        limit=options.limit,
        draws=DRAWS,
        attempts=ATTEMPTS,
        free=FREE,
        seeds=options.seeds,
        arms_practised=sum(map(sum, learnt.arms.values())),
        tasks={task: TaskRole(held_out=not saw(task, learnt.practised)) for task in tasks},
        rows={**{row.name: row.description for row in rows}, ORACLE: ORACLE_IS},
        starts={name: situation.state["start"] for name, situation in situations.items()},
        untouched=untouched,
        points=tuple(point.canonical() for point in grid(FAMILIES)),
        landscape={name: _families(points[name], landscape[name]) for name in situations},
        cells=cells(loops, tests),
        valid=valid,
    )


def _measured(
    rollouts: Rollouts, rows: Sequence[Entrant], situations: Mapping[str, Situation], progress: Progress
) -> tuple[dict[str, list[Strategy]], dict[str, list[Judged]], Loops, Tests]:
    """Return each situation's grid, what it is worth, every policy's loop, and what loops adopted on the test part."""
    rollouts.prepare(list(situations), progress)
    points = {name: grid(situation.context.families) for name, situation in situations.items()}
    landscape = _landscape(rollouts, points, progress)
    loops = lead(rollouts, rows, situations, progress)
    loops |= {(ORACLE, name): oracle(points[name], landscape[name]) for name in situations}
    return points, landscape, loops, tested(rollouts, loops, progress)


def _landscape(
    rollouts: Rollouts, points: Mapping[str, Sequence[Strategy]], progress: Progress
) -> dict[str, list[Judged]]:
    judged: dict[str, list[Judged]] = {}
    for name, worth in rollouts.judge(points):
        judged[name] = worth
        progress("landscape", len(judged), len(points))
    return judged


def _untouched(situation: Situation) -> Untouched:
    """Return what a situation's models reach before the loop; a start that cannot answer is withdrawn, as in a run."""
    bench, state = situation.bench, situation.state
    base, start = bench.adapted(state["base"]), bench.adapted(state["best"])
    reward = summarise(measure_part(bench, base, "test", "test-base").items)
    score = reward.score
    if start != base:
        with suppress(NotApplicableError):
            score = summarise(measure_part(bench, start, "test", "test-adapted").items).score
    return Untouched(base=reward.score, start=score, guessing=reward.chance, n=reward.n)


def _validity(row: Writing, config: RunConfig, situations: Mapping[str, Situation]) -> tuple[int, int]:
    """Return how many of a language model's texts are strategies without the grammar, and of how many."""
    settings = config.policy_settings.model_copy(update={"constrained": False})
    free = LocalPolicy(row.policy.lm, settings, row.policy.adapter)
    first_seed = {situation.bench.task.name: situation for situation in reversed(list(situations.values()))}
    texts = [text for situation in first_seed.values() for text in row.write_freely(free, situation, FREE, config.seed)]
    return sum(map(_is_strategy, texts)), len(texts)


def _is_strategy(text: str) -> bool:
    try:
        parse_strategy(text)
    except StrategyRejectedError:
        return False
    return True


def _families(points: Sequence[Strategy], worth: Sequence[Judged]) -> dict[str, Family]:
    """Return the landscape of a situation: family → points measured, and the strategies that improve the model."""
    measured = dict.fromkeys(FAMILIES, 0)
    improve: dict[str, list[tuple[StrategyFields, float]]] = {family: [] for family in FAMILIES}
    for strategy, judged in zip(points, worth, strict=True):
        if judged.comparison is None:  # it cannot act there
            continue
        measured[strategy.family] += 1
        if judged.improved:
            improve[strategy.family].append((strategy.canonical(), judged.comparison.loss_change))
    return {family: Family(measured=measured[family], improve=tuple(improve[family])) for family in FAMILIES}

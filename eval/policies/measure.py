"""Policies judged side by side: what each proposes in the same situations, and what comes of it.

A situation is a task and a seed at the point where a run's loop begins, with the task's usual support, reward and
test parts. In each, every policy is asked for first attempts, and then led through the loop: an attempt that fails
enters the history that it sees. The best point of the exhaustive grid is the oracle.

Source: CAO-LLM §2.4, G.5, G.6; the comparison is this project's.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from agent.config import RunConfig
from agent.loop.run_folder import locked
from agent.train.engine.engines import check_engine
from agent.train.engine.settings import EngineSettings
from agent.train.files import read_json
from agent.train.policy.rest_em import Judged
from agent.train.policy.rollouts import Plan, Rollouts, lay_out, open_rollouts
from agent.train.policy.settings import Settings, read_settings
from agent.train.policy.situations import Situation, Wanted
from cao.errors import InputError, UnavailableError
from cao.machine.compute import settled
from cao.model.adapters import adapter_sha256, load_adapter
from cao.model.loading import check_device
from cao.progress import Progress
from cao.strategies import FAMILIES, Strategy
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.types import StrategyFields
from eval.options import TablesOptions
from eval.policies.entrants import Entrant, Writing, entrants
from eval.policies.loops import ATTEMPTS, Loops, Tests, cells, lead, oracle, tested
from eval.policies.results import Family, PoliciesResult, TaskRole, TrainingReport
from policies.grid import grid
from policies.local import LocalPolicy
from policies.selection.learnt import SELECTION, Selection, read_selection
from policies.trained import find_policy, index_of

DRAWS = 4
"""First attempts of a policy that draws, in each situation."""

FREE = 10
"""Texts written without the grammar for each task, in its first seed."""

ORACLE = "oracle"
ORACLE_IS = "the best of the exhaustive grid on the reward part"


def measure(options: TablesOptions, engine: EngineSettings, command: str, progress: Progress) -> PoliciesResult:
    """Measure everything of the table.

    Args:
        options: what is measured.
        engine: what runs the workers.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a folder that cannot be used, or another process works in it.
        UnavailableError: the training is not finished, or data or model are not at hand.
    """
    trainings = [_finished(folder) for folder in options.training]
    first = trainings[0].settings
    config = _config(trainings, options)
    tasks = options.tasks or tuple(dict.fromkeys((*first.held_out, *first.tasks)))
    check_engine(engine)
    practice = max((training.arms for training in trainings), key=lambda arms: sum(map(sum, arms.values())))
    wanted = tuple(Wanted(task, seed, practice=False) for seed in options.seeds for task in tasks)
    with locked(first.situations_folder):
        plan = Plan(first.situations_folder, config, wanted)
        situations = lay_out(plan, progress)
        lm = next(iter(situations.values())).bench.lm
        weights = {name: load_adapter(path, lm.sha256) for each in trainings for name, path in each.policies.items()}
        if not weights and (shipped := find_policy(lm.sha256, index_of(config.pretrained))):
            weights["shipped"] = shipped
        memory, selection = options.training[0] / "texts.jsonl", _selection(options.training[-1], lm.sha256)
        rows = entrants(lm, config.policy_settings, weights, practice, DRAWS, memory, selection)
        with open_rollouts(engine, options.workers, plan, situations, progress) as rollouts:
            points, landscape, loops, tests = _measured(rollouts, rows, situations, progress)
        valid = {row.name: _validity(row, config, situations) for row in rows if isinstance(row, Writing)}
    return PoliciesResult(
        command=command,
        table="policies",
        measured=time.strftime("%Y-%m-%d", time.gmtime()),
        model=config.model,
        model_sha256=lm.sha256,
        device=lm.device,
        dtype=lm.dtype,
        trainings={training.name: training.report for training in trainings},
        policies={name: adapter_sha256(adapter) for name, adapter in weights.items()},
        rule=config.accept,
        reward=config.reward,
        support=config.support,
        limit=options.limit,
        draws=DRAWS,
        attempts=ATTEMPTS,
        free=FREE,
        seeds=options.seeds,
        arms_practised=sum(map(sum, practice.values())),
        tasks=_roles(tasks, trainings),
        rows={**{row.name: row.description for row in rows}, ORACLE: ORACLE_IS},
        starts={name: situation.state["start"] for name, situation in situations.items()},
        points=tuple(point.canonical() for point in grid(FAMILIES)),
        own_temperature=True,
        landscape={name: _families(points[name], landscape[name]) for name in situations},
        cells=cells(loops, tests),
        valid=valid,
    )


def _selection(folder: Path, base_sha256: str) -> Selection | None:
    """Return the portfolio and the surrogate that a training learnt, None where it measured no landscape."""
    path = folder / SELECTION
    return read_selection(path, base_sha256) if path.exists() else None


@dataclass(frozen=True)
class Finished:
    """A finished training.

    Attributes:
        name: of its folder.
        settings: what it was for.
        report: its settings, its samples and its costs.
        arms: strategy → (situations improved, situations not improved), of the grid's points in practice.
        policies: row of the table → folder of the adapter.
    """

    name: str
    settings: Settings
    report: TrainingReport
    arms: dict[str, tuple[int, int]]
    policies: dict[str, Path]


def _finished(folder: Path) -> Finished:
    settings, path = read_settings(folder), folder / "report.json"
    if not path.exists():
        raise UnavailableError(f"{folder} is not finished (no report.json); give its command again")
    report = read_json(path, dict[str, object])
    warm = "warm " if settings.warm_start else ""
    policies = {f"{warm}ReST-EM {n}": folder / f"policy-{n}" for n in range(1, settings.iterations + 1)}
    if warm:
        policies = {"taught by the grid": folder / "policy-0", **policies}
    try:
        arms = TypeAdapter(dict[str, tuple[int, int]]).validate_python(report["arms"])
        read = TrainingReport.model_validate({key: report[key] for key in ("settings", "iterations", "costs")})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a training's report ({type(error).__name__})") from None
    return Finished(folder.name, settings, read, arms, policies)


def _config(trainings: Sequence[Finished], options: TablesOptions) -> RunConfig:
    check_device(options.device)
    config = trainings[0].settings.config
    if any(training.settings.config != config for training in trainings):
        raise InputError("these trainings are of runs that differ (see their config.json); give one of them at a time")
    if len({name for training in trainings for name in training.policies}) < sum(len(t.policies) for t in trainings):
        raise InputError("two trainings of one kind would have the same rows; give one of them at a time")
    if config.model_path and not options.model_path:
        own = "was made with a model folder of your own; give it with --set model_path=DIR"
        raise InputError(f"{options.training[0]} {own}")
    return config.model_copy(
        update={
            "test": options.limit,
            "device": options.device,
            "offline": options.offline,
            "dtype": settled(options.dtype, options.device),
            "model_path": options.model_path,
        }
    )


def _roles(tasks: Sequence[str], trainings: Sequence[Finished]) -> dict[str, TaskRole]:
    practised = {task for training in trainings for task in training.settings.tasks}
    return {task: TaskRole(held_out=task not in practised) for task in tasks}


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
        measured[strategy.family] += 1
        if judged.improved and judged.comparison:
            improve[strategy.family].append((strategy.canonical(), judged.comparison.loss_change))
    return {family: Family(measured=measured[family], improve=tuple(improve[family])) for family in FAMILIES}

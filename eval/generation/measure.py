"""Stages 1 and 2 judged: generated and aligned adapters against the base model and against their controls.

The generator that serves a task never saw it. What it gains over the base model is partly the form of an answer,
which all tasks share; the controls have that part too, so that what conditioning earns is what remains against them.
Base model and adapters answer by their own best rule each, chosen on the reward part.

Source: CAO-LLM §2.2, §2.3; the controls and the recovery ratio are this project's.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from agent.loop.run_folder import locked
from agent.train.engine.engines import check_engine, open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Work
from agent.train.generator.presets import REPORTED
from agent.train.generator.variants import Variant
from cao.files import sha256_bytes
from cao.machine.compute import settled
from cao.model.adapters import LoraWeights
from cao.model.loading import check_device
from cao.progress import Progress, silent
from eval.bench.cost import Cheap, Cost, Training
from eval.bench.cost import measure as measure_cost
from eval.generation import retention
from eval.generation.bootstrap import REPETITIONS as BOOTSTRAP
from eval.generation.bootstrap import Draws
from eval.generation.cells import Cells, cells_folder
from eval.generation.consolidation import (
    check_finished,
    encode_sources,
    open_measured,
    serving,
)
from eval.generation.cosines import Cosines, alikeness
from eval.generation.pooled import pooled
from eval.generation.recipes import (
    PAPER,
    RETENTION,
    Compared,
    compared,
    in_domain,
    others,
    paper_variant,
    train_lacking,
    wanted_kinds,
)
from eval.generation.results import Consolidated, GenerationResult, Nearest, Neighbours, Setting, TaskResult
from eval.generation.rules import Judge
from eval.generation.scores import JUDGED, TaskAnswers, group, mean_recoveries, task_scores
from eval.generation.sheets import Sheet, questions
from eval.generation.subjects import sharing, subjects_of
from eval.generation.workshop import Recipe, Workshop
from eval.options import TablesOptions
from eval.questions import asked_prompts
from tools.evaluate.statistics import RULE_CHOICE


@dataclass(frozen=True)
class Plan:
    """What is compared, and by what it is judged.

    Attributes:
        compared: task → kinds of adapters.
        judges: task → its sheets.
    """

    compared: dict[str, Compared]
    judges: dict[str, Judge]


def measure(options: TablesOptions, engine: EngineSettings, command: str, progress: Progress) -> GenerationResult:
    """Measure everything of the table.

    Args:
        options: what is measured.
        engine: what runs the workers.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a folder that cannot be used, or another process works in it.
        UnavailableError: the consolidation is not finished, or data or model are not at hand.
    """
    tasks, kinds = options.tasks or REPORTED, wanted_kinds(options.methods)
    with at_work(options, engine, tasks, progress) as (options, workshop):
        train_lacking(workshop, tasks, options.seeds, kinds, progress)
        plan = Plan({task: compared(workshop, task, options.seeds, kinds) for task in tasks}, judges_of(tasks, options))
        cells = cells_of(workshop, options, progress)
        fill = partial(fill_cells, cells, options, engine)
        recipes = {task: one.recipes for task, one in plan.compared.items()}
        fill(wanted(cells, plan.judges, recipes))
        judged = partial(answers_of, cells, seeds=len(options.seeds), kinds=kinds)
        answers = {task: judged(plan.judges[task], recipes[task]) for task in tasks}
        started = {task: _started(plan.compared[task]) for task in tasks}
        kept = retention.measure(cells, plan.judges, started, fill) if RETENTION in kinds else None
        return _result(workshop, cells, plan, answers, kept, options, command, progress)


@contextmanager
def at_work(
    options: TablesOptions, engine: EngineSettings, tasks: Sequence[str], progress: Progress
) -> Iterator[tuple[TablesOptions, Workshop]]:
    """Hold a finished consolidation's scores; yield the options, their dtype settled for all workers, and a workshop.

    Raises:
        InputError: settings or a folder that cannot be used, or another process works in it.
        UnavailableError: the consolidation is not finished, or the engine, data or model are not at hand.
    """
    check_device(options.device)
    options = options.model_copy(update={"dtype": settled(options.dtype, options.device)})
    check_engine(engine)
    consolidation = open_measured(options, progress)
    if options.consolidation is None:
        encode_sources(consolidation)
    check_finished(consolidation, list(tasks))
    scores = options.folder / "scores"
    scores.mkdir(parents=True, exist_ok=True)
    with locked(scores, alone=True):
        yield options, Workshop(consolidation)


def judges_of(tasks: Sequence[str], options: TablesOptions) -> dict[str, Judge]:
    """Return where each task's rules are chosen, and where they are reported."""
    reward, limit = options.reward, options.limit
    return {task: Judge(Sheet(task, "reward", reward), Sheet(task, options.split, limit)) for task in tasks}


def open_cells(options: TablesOptions, progress: Progress) -> Cells:
    """Return the cells of a folder with a model and a workshop of their own: what a worker works with."""
    return cells_of(Workshop(open_measured(options, progress)), options, silent)


def cells_of(workshop: Workshop, options: TablesOptions, progress: Progress) -> Cells:
    """Return the scored cells beside a consolidation."""
    lm = workshop.consolidation.lm
    return Cells(cells_folder(options.folder, options.device, lm), lm, workshop.make, progress)


def fill_cells(cells: Cells, options: TablesOptions, engine: EngineSettings, wanted: retention.Wanted) -> None:
    """Score what is missing of what is wanted."""
    missing = cells.missing(wanted)
    if missing:
        work = Work(partial(open_cells, options), Cells.do, offline=options.offline)
        with open_engine(engine, options.workers, work, here=cells) as run:
            cells.score(missing, run)


def wanted(
    cells: Cells, judges: Mapping[str, Judge], recipes: Mapping[str, Mapping[str, Sequence[Recipe]]]
) -> retention.Wanted:
    """Yield what every adapter is asked, so that every answer rule follows.

    Args:
        cells: whose model answers.
        judges: task → its sheets.
        recipes: task → kind of adapter → a recipe for each seed.
    """
    for task, kinds in recipes.items():
        asks = judges[task].asks(cells.lm.profile.answer_style)
        for each in kinds.values():
            yield from ((recipe, ask) for recipe in each for ask in asks)


def answers_of(
    cells: Cells, judge: Judge, recipes: Mapping[str, Sequence[Recipe]], *, seeds: int, kinds: Collection[str]
) -> TaskAnswers:
    """Return what every kind of adapter answers on a task, with the bootstrap's draws.

    Args:
        cells: where they are scored.
        judge: the task's sheets.
        recipes: kind → a recipe for each seed, or a single one.
        seeds: how many there are.
        kinds: what is wanted, those over a pool among them.
    """
    answers = {kind: judge.judged(cells, each) for kind, each in recipes.items()}
    answers |= pooled(cells, judge, recipes, seeds, kinds)
    rng = np.random.default_rng(int(sha256_bytes(judge.test.task.encode())[:8], 16))
    asked = questions(judge.test)
    chance = float(np.mean([1 / len(example.choices) for example in asked]))
    return TaskAnswers(answers, Draws.make(len(asked), seeds, rng), chance)


def _started(found: Compared) -> retention.Started:
    """Return what a run starts from, of the first seed: the aligned adapter where there is one."""
    kind = next(kind for kind in reversed(JUDGED) if kind in found.recipes)
    return retention.Started(kind, found.recipes[kind][0])


def _result(
    workshop: Workshop,
    cells: Cells,
    plan: Plan,
    answers: Mapping[str, TaskAnswers],
    kept: retention.Retention | None,
    options: TablesOptions,
    command: str,
    progress: Progress,
) -> GenerationResult:
    scored = {task: task_scores(each) for task, each in answers.items()}
    settings = {task: _setting(workshop, cells, task, plan.compared[task], options.seeds) for task in answers}
    far = {task: each for task, each in answers.items() if not settings[task].near.sharing}
    aligner, tasks = workshop.trained(workshop.full.name)[1], tuple(answers)
    return GenerationResult(
        command=command,
        table="generation",
        measured=time.strftime("%Y-%m-%d", time.gmtime()),
        consolidation=_consolidated(workshop, options),
        split=options.split,
        limit=options.limit,
        reward=options.reward,
        rule_choice=RULE_CHOICE,
        seeds=options.seeds,
        device=options.device,
        dtype=cells.lm.dtype,
        bootstrap=BOOTSTRAP,
        aligner_target=aligner.header.target if aligner else None,
        missing=_missing(plan),
        tasks={task: TaskResult(**dict(settings[task]), **dict(scored[task])) for task in tasks},
        every=group(scored, answers),
        far=group(scored, far) if 0 < len(far) < len(answers) else None,
        recovery=mean_recoveries(scored, answers),
        retention=kept,
        cosines=_cosines(workshop, tasks, options.seeds[0], progress),
        cost=_cost(workshop, tasks, options, progress),
    )


def _missing(plan: Plan) -> dict[str, str]:
    """Return kind → every reason why some task or all have none of it."""
    reasons: dict[str, dict[str, None]] = {}
    for one in plan.compared.values():
        for kind, why in one.missing.items():
            reasons.setdefault(kind, {})[why] = None
    return {kind: ", ".join(each) for kind, each in reasons.items()}


def _setting(workshop: Workshop, cells: Cells, task: str, found: Compared, seeds: Sequence[int]) -> Setting:
    variant, paper = serving(workshop.consolidation, task), paper_variant(workshop)
    return Setting(
        variant=variant.name,
        in_domain=in_domain(workshop, task),
        prompts={str(seed): len(workshop.support(task, seed)) for seed in seeds},
        subjects=tuple(sorted(subjects_of(task))),
        near=_neighbours(workshop, task, variant, seeds),
        paper=_neighbours(workshop, task, paper, seeds) if paper and PAPER in found.recipes else None,
        wrong=tuple(others(task, len(seeds))),
        adapters={kind: tuple(cells.hash_of(r)[:16] for r in recipes) for kind, recipes in found.recipes.items()},
    )


def _neighbours(workshop: Workshop, task: str, variant: Variant, seeds: Sequence[int]) -> Neighbours:
    nearest = {seed: workshop.nearest(task, variant, seed) for seed in seeds}
    return Neighbours(
        nearest={str(seed): Nearest(source=name, cosine=cosine) for seed, (name, cosine) in nearest.items()},
        sharing=sharing(task, variant.sources),
    )


def _cosines(workshop: Workshop, tasks: Sequence[str], seed: int, progress: Progress) -> Cosines:
    """Return the cosines of ΔW between adapters of every other prompt and those of the rest, one generator for all."""
    first, second = list[LoraWeights](), list[LoraWeights]()
    for done, task in enumerate(tasks, 1):
        prompts = [example.prompt for example in workshop.support(task, seed)]
        for half, kept in ((first, prompts[::2]), (second, prompts[1::2])):
            half.append(workshop.generate(workshop.full, kept))
        progress("cosines", done, len(tasks))
    return alikeness(tasks, first, second, variant=workshop.full.name, seed=seed)


def _cost(workshop: Workshop, tasks: Sequence[str], options: TablesOptions, progress: Progress) -> Cost:
    """Return what an adapter of the full generator costs, on the first task that there is a checkpoint of."""
    task = next((task for task in tasks if in_domain(workshop, task)), workshop.full.sources[0])
    generator, aligner = workshop.trained(workshop.full.name)
    consolidation, examples = workshop.consolidation, workshop.support(task, options.seeds[0])
    asked = asked_prompts(task, examples, consolidation.lm.profile.answer_style)
    prompts = [example.prompt for example in examples]
    cheap = Cheap(consolidation.encoder, generator, aligner, consolidation.lm, prompts, asked)
    return measure_cost(cheap, Training(consolidation, task), whole=options.full_cost, progress=progress)


def _consolidated(workshop: Workshop, options: TablesOptions) -> Consolidated:
    consolidation = workshop.consolidation
    return Consolidated(
        folder=options.consolidation.name if options.consolidation else "",
        model=consolidation.lm.profile.name,
        model_sha256=consolidation.lm.sha256,
        preset=consolidation.preset.name,
        seed=consolidation.seed,
        sources=workshop.full.sources,
    )

"""Stages 1 and 2 judged: generated and aligned adapters against the base model and against their controls.

The generator that serves a task never saw it. What it gains over the base model is partly the form of an answer,
which all tasks share; the controls have that part too, so that what conditioning earns is what remains against them.

Source: CAO-LLM §2.2, §2.3; the controls and the recovery ratio are this project's.
"""

import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from agent.loop.run_folder import locked
from agent.train.engine.engines import check_engine, open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Work
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import Variant
from cao.files import sha256_bytes
from cao.machine.compute import settled
from cao.model.adapters import LoraWeights
from cao.model.loading import check_device
from cao.progress import Progress, silent
from cao.types import Example, Item
from eval.bench.cost import Cheap, Cost, Training
from eval.bench.cost import measure as measure_cost
from eval.generation.bootstrap import REPETITIONS as BOOTSTRAP
from eval.generation.bootstrap import Answers, Draws
from eval.generation.cells import Cells, cells_folder
from eval.generation.consolidation import check_finished, open_folder, serving
from eval.generation.cosines import alikeness
from eval.generation.recipes import REPORTED, Recipe, Workshop, others
from eval.generation.results import Consolidated, Cosines, GenerationResult, Setting, TaskResult
from eval.generation.scores import TaskAnswers, aims, averages, task_scores
from eval.options import TablesOptions
from eval.questions import asked_prompts


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
    check_device(options.device)
    options = options.model_copy(update={"dtype": settled(options.dtype, options.device)})  # the same for every worker
    consolidation = _opened(options, progress)
    tasks = options.tasks or REPORTED
    check_finished(consolidation, list(tasks))
    check_engine(engine)
    scores = options.folder / "scores"
    scores.mkdir(exist_ok=True)
    with locked(scores):
        workshop = Workshop(consolidation, options.split, options.limit, options.seeds)
        plan = {task: workshop.compared(task) for task in tasks}
        cells = _scored(workshop, plan, options, engine, progress)
        answers = {task: _answers(cells, task, recipes, options.seeds) for task, recipes in plan.items()}
        scored = {task: task_scores(answers[task], in_domain=workshop.is_source(task)) for task in tasks}
        settings = {task: _setting(workshop, cells, task, plan[task]) for task in tasks}
        return GenerationResult(
            command=command,
            table="generation",
            measured=time.strftime("%Y-%m-%d", time.gmtime()),
            consolidation=_consolidated(workshop, options),
            split=options.split,
            limit=options.limit,
            seeds=options.seeds,
            device=options.device,
            dtype=options.dtype,
            bootstrap=BOOTSTRAP,
            aligner_target=workshop.trained(workshop.full.name)[1].header.target,
            tasks={task: TaskResult(**dict(settings[task]), **dict(scored[task])) for task in tasks},
            average=averages(list(answers.values())),
            aims=aims(scored, answers),
            cosines=_cosines(workshop, tasks, progress),
            cost=_cost(workshop, tasks, progress, whole=options.full_cost),
        )


def _opened(options: TablesOptions, progress: Progress) -> Consolidation:
    return open_folder(
        options.folder,
        model_path=options.model_path,
        device=options.device,
        dtype=options.dtype,
        offline=options.offline,
        progress=progress,
    )


def open_cells(options: TablesOptions, questions: dict[str, list[Example]], progress: Progress) -> Cells:
    """Return the cells of a folder with a model and a workshop of their own: what a worker works with."""
    workshop = Workshop(_opened(options, progress), options.split, options.limit, options.seeds)
    return _cells(workshop, questions, options, silent)


def _cells(
    workshop: Workshop, questions: dict[str, list[Example]], options: TablesOptions, progress: Progress
) -> Cells:
    folder = cells_folder(options.folder, options.device, workshop.consolidation.lm.dtype, options.split, options.limit)
    return Cells(folder, workshop.consolidation.lm, questions, workshop.make, progress)


def _scored(
    workshop: Workshop,
    plan: dict[str, dict[str, list[Recipe]]],
    options: TablesOptions,
    engine: EngineSettings,
    progress: Progress,
) -> Cells:
    """Return the cells with everything scored that the plan asks for."""
    wanted = [(r, task) for task, recipes in plan.items() for several in recipes.values() for r in several]
    questions = {task: workshop.questions(task) for task in plan}
    cells = _cells(workshop, questions, options, progress)
    missing = cells.missing(wanted)
    if missing:
        work = Work(partial(open_cells, options, questions), Cells.do, offline=options.offline)
        with open_engine(engine, options.workers, work, here=cells) as run:
            cells.score(missing, run)
    return cells


def _answers(cells: Cells, task: str, recipes: dict[str, list[Recipe]], seeds: Sequence[int]) -> TaskAnswers:
    def items(recipe: Recipe) -> list[Item]:
        scored = cells.read(recipe, task)
        assert scored is not None, (recipe, task)
        return scored

    answers = {name: Answers.of([items(recipe) for recipe in several]) for name, several in recipes.items()}
    rng = np.random.default_rng(int(sha256_bytes(task.encode())[:8], 16))
    return TaskAnswers(answers, Draws.make(answers["base"].n, len(seeds), rng))


def _setting(workshop: Workshop, cells: Cells, task: str, recipes: dict[str, list[Recipe]]) -> Setting:
    variant = serving(workshop.consolidation, task)
    return Setting(
        variant=variant.name,
        in_domain=workshop.is_source(task),
        prompts={str(seed): len(workshop.support(task, seed)) for seed in workshop.seeds},
        nearest={str(seed): workshop.nearest(task, variant, seed) for seed in workshop.seeds},
        wrong=tuple(others(task, len(workshop.seeds))),
        adapters={kind: tuple(cells.hash_of(recipe)[:16] for recipe in some) for kind, some in recipes.items()},
    )


def _cosines(workshop: Workshop, tasks: Sequence[str], progress: Progress) -> Cosines:
    """Return the cosines of ΔW between adapters of every other prompt and those of the rest, one generator for all."""
    seed, first, second = workshop.seeds[0], list[LoraWeights](), list[LoraWeights]()
    for done, task in enumerate(tasks, 1):
        prompts = [example.prompt for example in workshop.support(task, seed)]
        for half, kept in ((first, prompts[::2]), (second, prompts[1::2])):
            half.append(workshop.generate(workshop.full, kept))
        progress("cosines", done, len(tasks))
    return alikeness(tasks, first, second, variant=workshop.full.name, seed=seed)


def _cost(workshop: Workshop, tasks: Sequence[str], progress: Progress, *, whole: bool) -> Cost:
    """Return what an adapter costs, on the first task that there is a checkpoint of."""
    task = next((task for task in tasks if workshop.is_source(task)), workshop.full.sources[0])
    variant = _cost_variant(workshop, task)
    generator, aligner = workshop.trained(variant.name)
    consolidation, examples = workshop.consolidation, workshop.support(task, workshop.seeds[0])
    asked = asked_prompts(task, examples, consolidation.lm.profile.answer_style)
    prompts = [example.prompt for example in examples]
    cheap = Cheap(consolidation.encoder, generator, aligner, consolidation.lm, prompts, asked)
    return measure_cost(cheap, Training(consolidation, task), whole=whole, progress=progress)


def _cost_variant(workshop: Workshop, task: str) -> Variant:
    return serving(workshop.consolidation, task) if task in workshop.consolidation.preset.leave_out else workshop.full


def _consolidated(workshop: Workshop, options: TablesOptions) -> Consolidated:
    consolidation = workshop.consolidation
    return Consolidated(
        folder=options.folder.name,
        model=consolidation.lm.profile.name,
        model_sha256=consolidation.lm.sha256,
        preset=consolidation.preset.name,
        seed=consolidation.seed,
        sources=workshop.full.sources,
    )

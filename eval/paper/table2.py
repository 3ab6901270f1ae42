"""Table 2: the project's method and every baseline on tasks that they never saw, under one set of answer rules.

Adapters are made cell by cell and kept; then their answers are scored as the page of generated adapters scores them.
Rules are chosen on the reward part, for each adapter its own; the test part is what is reported.

Source: CAO-LLM Table 2, H.
"""

import time
from collections.abc import Sequence

from agent.train.engine.settings import EngineSettings
from agent.train.generator.presets import REPORTED
from cao.errors import InputError
from cao.progress import Progress
from eval.baselines.baseline import Budget, Spent
from eval.baselines.ground import ground_of
from eval.baselines.registry import BASELINES
from eval.generation.consolidation import serving
from eval.generation.measure import answers_of, at_work, cells_of, fill_cells, judges_of, wanted
from eval.generation.sheets import questions
from eval.generation.workshop import Recipe, Workshop
from eval.options import TablesOptions
from eval.paper.making import equal_budget, make, recipe_of
from eval.paper.results import Table2Result
from eval.paper.rows import OWN, STAGE_1, Plan, rows_of


def measure(options: TablesOptions, engine: EngineSettings, command: str, progress: Progress) -> Table2Result:
    """Make and score what is missing, and return the table.

    Args:
        options: what is measured.
        engine: what runs the workers that score.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a folder that cannot be used, or another process works in it.
        UnavailableError: the consolidation is not finished, or data or model are not at hand.
    """
    methods = options.methods or (*BASELINES, *OWN)
    unknown = [name for name in methods if name not in (*BASELINES, *OWN)]
    if unknown:
        raise InputError(f"--methods {unknown[0]}: no such method; known: {', '.join((*BASELINES, *OWN))}")
    tasks = options.tasks or REPORTED
    with at_work(options, engine, tasks, progress) as (options, workshop):
        plan = _planned(workshop, [*dict.fromkeys((*methods, STAGE_1))], tasks, options, command, progress)
        cells, judges = cells_of(workshop, options, progress), judges_of(tasks, options)
        recipes = {task: plan.of(task) for task in tasks}
        fill_cells(cells, options, engine, wanted(cells, judges, recipes))
        answers = {task: answers_of(cells, judges[task], recipes[task], len(options.seeds)) for task in tasks}
        lm = cells.lm
        return Table2Result(
            command=command,
            table="2",
            measured=time.strftime("%Y-%m-%d", time.gmtime()),
            model=lm.profile.name,
            model_sha256=lm.sha256,
            preset=workshop.consolidation.preset.name,
            device=options.device,
            dtype=lm.dtype,
            rules=options.rules,
            reward=options.reward,
            limit=options.limit,
            seeds=options.seeds,
            tasks=tuple(tasks),
            reference=STAGE_1,
            chance={task: one.chance for task, one in answers.items()},
            n={task: len(questions(judges[task].test)) for task in tasks},
            rows=rows_of(plan, answers),
        )


def _planned(
    workshop: Workshop,
    methods: Sequence[str],
    tasks: Sequence[str],
    options: TablesOptions,
    command: str,
    progress: Progress,
) -> Plan:
    """Make every method's adapters that are not there yet, and return how each is had."""
    plan, done, total = Plan(), 0, len(methods) * len(tasks)
    budgets = _budgets(workshop, tasks, progress)
    for method in methods:
        plan.recipes[method], plan.absent[method] = {}, {}
        for task in tasks:
            if method in OWN:
                _add_own(workshop, plan, method, task, budgets[task], options.seeds)
            else:
                _add_baseline(workshop, plan, method, task, budgets[task], options, command, progress)
            done += 1
            progress("methods on tasks", done, total)
    return plan


def _budgets(workshop: Workshop, tasks: Sequence[str], progress: Progress) -> dict[str, Budget]:
    """Return each task's equal budget; the tasks that one generator serves have the same."""
    of_variant = dict[str, Budget]()
    for task in tasks:
        ground = ground_of(workshop, task, progress)
        if ground.variant.name not in of_variant:
            of_variant[ground.variant.name] = equal_budget(ground)
    return {task: of_variant[serving(workshop.consolidation, task).name] for task in tasks}


def _add_own(workshop: Workshop, plan: Plan, method: str, task: str, budget: Budget, seeds: Sequence[int]) -> None:
    """Add what the project's method makes; it reads its target's prompts, through the encoder."""
    recipes, absent = plan.recipes[method], plan.absent[method]
    variant = serving(workshop.consolidation, task)
    steps = workshop.consolidation.preset.generator.steps
    read = Spent(steps=steps, tokens=budget.preparing, seconds=None)
    plan.spent.setdefault(method, []).append((read, Spent(seconds=None)))
    if method == STAGE_1:
        recipes[task] = [workshop.generated(task, seed, variant) for seed in seeds]
    elif workshop.has(f"variants/{variant.name}/aligner"):
        recipes[task] = [workshop.aligned(task, seed, variant) for seed in seeds]
    else:
        absent[task] = f"no aligner was trained behind `{variant.name}`"


def _add_baseline(
    workshop: Workshop,
    plan: Plan,
    method: str,
    task: str,
    budget: Budget,
    options: TablesOptions,
    command: str,
    progress: Progress,
) -> None:
    """Add a baseline's adapters of every seed; where one fails the cell is absent, with the command that shows it."""
    recipes, spent = list[Recipe](), list[tuple[Spent, Spent]]()
    for seed in options.seeds:
        allowed = budget if options.rules == "equal" else None
        made, reason = make(workshop, method, task, seed, rules=options.rules, budget=allowed, progress=progress)
        if made is None:
            again = f"{command} --methods {method} --tasks {task} --seeds {seed}"
            plan.absent[method][task] = f"{reason}; alone: {again}" if reason.startswith("crashed") else reason
            return
        recipes.append(recipe_of(made, workshop, f"{method} on {task}, seed {seed}"))
        spent.append((made.choosing + made.preparing, made.adapting))
    plan.recipes[method][task] = recipes if len({recipe.key for recipe in recipes}) > 1 else recipes[:1]
    plan.spent.setdefault(method, []).extend(spent)

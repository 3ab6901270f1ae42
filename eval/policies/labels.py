"""The control that a user would try: LoRA, and the strength of Calibrate, fitted on the labelled reward questions.

A situation is a task and a seed at the point where a run's loop begins. Half of its reward questions are there to fit,
half to judge; which is which follows from the questions alone. What is fitted, and what the fitting starts from,
depends on the labels of the first half only. Calibrate's rule is fitted; all else answers under its own best rule on
the half to judge. The test part is answered at the end, by rows that are fixed before and by the variant that the half
to judge has chosen.

Answers and trainings are kept in the folder of the situation, so a kill costs one of them. The comparison is this
project's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.loop.answers import rules_of
from agent.loop.reward import measure_part
from agent.loop.state import Workbench
from agent.record.measurements import GENERATED
from agent.train.policy.situations import Situation
from cao.errors import InputError, NotApplicableError
from cao.model.adapters import LoraWeights, load_adapter
from cao.progress import Progress
from cao.strategies.calibrate import Calibrate
from cao.tasks.splits import MeasuredPart
from cao.types import AdaptedModel, AnswerRule, Example, Item
from eval.measured import measured_with
from eval.options import TablesOptions
from eval.policies.ground import laid_out, plan_of
from eval.policies.labelled_lora import Fitted, Recipe, Shelf, deal, fit_lora, held_back
from eval.policies.labels_results import (
    BASE,
    BOTH,
    CALIBRATE,
    LORA,
    ROWS,
    START,
    TESTED,
    Cell,
    LabelledSituation,
    LabelsResult,
    Score,
    control_of,
)
from tools.evaluate.statistics import best_rule, summarise
from tools.evaluate.temperature import losses

FOLDER = Path("runs/labels")
"""Where the page is written, where nothing else is said."""

Models = dict[str, AdaptedModel]
"""Row → its model, with its answer rule."""


def halves(reward: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return the reward questions to fit and those to judge; whatever order they come in, twins on one side."""
    return deal(reward, "labels", 2)


def measure(options: TablesOptions, command: str, progress: Progress, recipe: Recipe | None = None) -> LabelsResult:
    """Measure everything of the table.

    Args:
        options: what is measured.
        command: that asked for it.
        progress: called during long work.
        recipe: how LoRA is trained; None is the usual way.

    Raises:
        InputError: settings or a task that cannot be used, or another process works in the folder.
        UnavailableError: data or model are not at hand.
    """
    recipe, plan = recipe or Recipe(), plan_of(options)
    with laid_out(plan, progress) as situations:
        models, known = dict[str, Models](), dict[str, LabelledSituation]()
        for done, (name, situation) in enumerate(situations.items(), 1):
            models[name], known[name] = _fitted(situation, recipe)
            progress("situations fitted", done, len(situations))
        cells = {
            row: {name: _judged(situation.bench, models[name][row]) for name, situation in situations.items()}
            for row in ROWS
        }
        control = control_of(cells)
        rows = list(dict.fromkeys((*TESTED, control)))
        for done, row in enumerate(rows, 1):
            for name, cell in cells[row].items():
                score = _score(_answers(situations[name].bench, models[name][row], "test"))
                cells[row][name] = cell.model_copy(update={"test": score})
            progress("test parts", done, len(rows))
    lm = next(iter(situations.values())).bench.lm
    return LabelsResult(
        **dict(measured_with(lm, command, "labels")),
        support=plan.config.support,
        reward=options.reward,
        limit=options.limit,
        recipe=recipe,
        tasks=tuple(dict.fromkeys(situation.bench.task.name for situation in situations.values())),
        seeds=options.seeds,
        situations=known,
        cells=cells,
        control=control,
    )


@dataclass(frozen=True)
class Judge:
    """Answers of models to some questions of the reward part.

    Attributes:
        bench: the workbench.
        examples: the questions.
    """

    bench: Workbench
    examples: Sequence[Example]

    def loss(self, model: AdaptedModel, rule: AnswerRule) -> float:
        """Return the log-loss of a model under a rule, at the model's own temperature."""
        return float(losses(self.answers(model.under(rule))).mean())

    def answers(self, model: AdaptedModel) -> list[Item]:
        """Return a model's answers to the questions; all of the part are asked, and kept."""
        items = {item.id: item for item in _answers(self.bench, model, "reward")}
        return [items[example.id] for example in self.examples]

    def best(self, model: AdaptedModel, rules: Sequence[AnswerRule]) -> AdaptedModel:
        """Return a model under its own rule, of those given, as a run chooses it."""
        return model.under(best_rule({rule: self.answers(model.under(rule)) for rule in rules}))

    def fitted(self, model: AdaptedModel, grid: Sequence[AnswerRule]) -> AdaptedModel:
        """Return a model under the point of Calibrate's grid of the lowest log-loss, of equal ones the first."""
        return model.under(min(grid, key=lambda rule: self.loss(model, rule)))


def _fitted(situation: Situation, recipe: Recipe) -> tuple[Models, LabelledSituation]:
    """Fit every variant on the half to fit, and give each other model its rule on the half to judge."""
    bench = situation.bench
    if bench.protocol != "likelihood":
        raise InputError(f"{bench.task.name}: --table labels needs questions with choices")
    state = situation.state
    fit, judge = (Judge(bench, half) for half in halves(bench.splits.reward))
    rules = rules_of(bench)
    grid = [point.rule for point in Calibrate.grid() if point.rule.prior in {rule.prior for rule in rules}]
    made = {name: bench.adapter(state["adapters"][name]) for name in GENERATED}
    begun: Models = {BASE: AdaptedModel()}
    begun |= {name: AdaptedModel(members=(ref,)) for name, ref in made.items() if ref}
    lowest = {name: min(fit.loss(model, rule) for rule in rules) for name, model in begun.items()}
    start = min(begun, key=lambda name: lowest[name])
    trainings, models = dict[str, Fitted](), Models()
    shelf, stop = Shelf(bench.folder / "labels", bench.store), Judge(bench, held_back(fit.examples))
    for side, model in {BASE: begun[BASE], START: begun[start]}.items():
        trainings[side] = fitted = fit_lora(
            bench.lm,
            bench.task,
            fit.examples,
            _weights(bench, model),
            seed=bench.seed("labels"),
            shelf=shelf,
            recipe=recipe,
            progress=bench.progress,
        )
        trained, rehearsal = (shelf.model(sha256, bench.lm) for sha256 in (fitted.adapter, fitted.rehearsal))
        models |= {
            side: judge.best(model, rules),
            CALIBRATE[side]: fit.fitted(model, grid),
            LORA[side]: judge.best(trained, rules),
            BOTH[side]: trained.under(stop.fitted(rehearsal, grid).answer_rule),
        }
    return models, LabelledSituation(
        fit=len(fit.examples),
        judge=len(judge.examples),
        start=start,
        run_start=state["start"],
        trainings=trainings,
    )


def _weights(bench: Workbench, model: AdaptedModel) -> LoraWeights:
    """Return the adapter that training goes on from: the model's own, or the recorded initialisation."""
    (adapter,) = model.members
    if adapter is None:
        return bench.lm.fresh_lora(bench.seed("labels", "initial"))
    return load_adapter(Path(adapter.path), bench.lm.sha256)


def _judged(bench: Workbench, model: AdaptedModel) -> Cell:
    _, judge = halves(bench.splits.reward)
    return Cell(rule=model.answer_rule, judged=_score(Judge(bench, judge).answers(model)))


def _answers(bench: Workbench, model: AdaptedModel, part: MeasuredPart) -> list[Item]:
    """Return a model's answers to a whole part of the task; what was answered before is not asked again."""
    try:
        return measure_part(bench, model, part, f"labels-{part}").items
    except NotApplicableError as error:
        raise InputError(f"{bench.task.name}: {error}") from None


def _score(items: Sequence[Item]) -> Score:
    reward = summarise(items)
    return Score(accuracy=reward.score, loss=reward.loss, n=reward.n)

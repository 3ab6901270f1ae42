"""What a run's start is worth on the test part: the base model and the adapters under one set of answer rules.

A situation is a task and a seed at the point where a run's loop begins. Rules and adapters are chosen on its reward
part; the test part is answered by the base model and by the start, each under the default rule and under its own best
one. Answers are kept in the folder of the situation, so a kill costs a block of one of them.
"""

from typing import get_args

from agent.loop.reward import measure_part
from agent.loop.start import answers_by_rule, best_start
from agent.record.gains import rule_text
from agent.record.measurements import GENERATED, StartName
from agent.train.policy.situations import Situation
from cao.progress import Progress
from cao.types import AcceptRule, AdaptedModel, AnswerRule, Item, Record, Reward
from eval.measured import Measured, measured_with
from eval.options import TablesOptions
from eval.policies.ground import laid_out, plan_of
from tools.evaluate.statistics import CONFIDENT_LEVEL, RULE_CHOICE, best_rule, compare, summarise


class Side(Record):
    """One model on the test part: accuracy in [0, 1], log-loss at its own temperature in nats, whether at chance."""

    accuracy: float
    loss: float
    at_chance: bool


class ByRule(Record):
    """What a rule of acceptance starts from, every question asked, and that model on the test part."""

    start: str
    adapted: Side


class StartCell(Record):
    """One situation on its test part.

    Attributes:
        start: ``base``, ``generated`` or ``aligned``.
        rules: in words: the base model's and the start's own best one.
        base_default, base: the base model under the default rule, and under its own best one.
        start_default, adapted: the start likewise.
        by_rule: rule of acceptance → what it starts from, by its own best answer rule.
        chance: accuracy of guessing.
        p_value: exact McNemar, ``adapted`` against ``base``.
        n: questions.
    """

    start: str
    rules: tuple[str, str]
    base_default: Side
    base: Side
    start_default: Side
    adapted: Side
    by_rule: dict[AcceptRule, ByRule]
    chance: float
    p_value: float
    n: int


class StartsResult(Measured):
    """What was measured; ``cells`` has a situation, ``TASK-SEED``, each.

    Attributes:
        rule: of acceptance, that the runs have.
        rule_choice: which of the answer rules a model took, in words.
    """

    reward: int
    limit: int
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    rule: AcceptRule
    rule_choice: str
    cells: dict[str, StartCell]


def measure(options: TablesOptions, command: str, progress: Progress) -> StartsResult:
    """Measure everything of the table.

    Args:
        options: what is measured.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a task that cannot be used, or another process works in the folder.
        UnavailableError: data or model are not at hand.
    """
    with laid_out(plan_of(options), progress) as situations:
        cells = dict[str, StartCell]()
        for done, (name, situation) in enumerate(situations.items(), 1):
            cells[name] = _cell(situation)
            progress("situations", done, len(situations))
    lm = next(iter(situations.values())).bench.lm
    return StartsResult(
        **dict(measured_with(lm, command, "starts")),
        reward=options.reward,
        limit=options.limit,
        tasks=tuple(dict.fromkeys(situation.bench.task.name for situation in situations.values())),
        seeds=options.seeds,
        rule=next(iter(situations.values())).bench.config.accept,
        rule_choice=RULE_CHOICE,
        cells=cells,
    )


def _cell(situation: Situation) -> StartCell:
    state, bench = situation.prepare(), situation.bench
    base, start = bench.adapted(state["base"]), bench.adapted(state["best"])
    models = {"base": base, "adapted": start}
    models |= {"base_default": base.under(AnswerRule()), "start_default": start.under(AnswerRule())}
    items = {name: measure_part(bench, model, "test", f"test-{name}").items for name, model in models.items()}
    rewards = {name: summarise(answered) for name, answered in items.items()}
    sides = {name: _side(reward) for name, reward in rewards.items()}
    return StartCell(
        by_rule=_by_rule(situation, base),
        start=state["start"],
        rules=(rule_text(base.answer_rule), rule_text(start.answer_rule)),
        chance=rewards["base"].chance,
        p_value=compare(items["base"], items["adapted"], bench.config.accept).mcnemar_p_value,
        n=rewards["base"].n,
        **sides,
    )


def _side(reward: Reward) -> Side:
    return Side(accuracy=reward.score, loss=reward.loss, at_chance=reward.at_chance)


def _by_rule(situation: Situation, base: AdaptedModel) -> dict[AcceptRule, ByRule]:
    """Return what each rule of acceptance would start from; nothing is raced, as rules differ in what they drop."""
    bench, models = situation.bench, dict[StartName, AdaptedModel]({"base": base})
    reward = dict[StartName, list[Item]]({"base": measure_part(bench, base, "reward", "whole-base").items})
    for name in GENERATED:
        if reference := bench.adapter(situation.state["adapters"][name]):
            plain = AdaptedModel(members=(reference,))
            answers, _ = answers_by_rule(bench, plain, f"whole-{name}")
            own = best_rule(answers)
            models[name], reward[name] = plain.under(own), answers[own]
    scores = {name: summarise(items) for name, items in reward.items()}
    made: list[StartName] = [name for name in models if name != "base"]
    level = CONFIDENT_LEVEL / max(1, len(made))
    starts = dict[AcceptRule, StartName]()
    for rule in get_args(AcceptRule):
        verdicts = {name: compare(reward["base"], reward[name], rule, level=level) for name in made}
        starts[rule] = best_start(scores, verdicts)
    tested = {
        name: _side(summarise(measure_part(bench, models[name], "test", f"test-{name}").items))
        for name in dict.fromkeys(starts.values())
    }
    return {rule: ByRule(start=name, adapted=tested[name]) for rule, name in starts.items()}

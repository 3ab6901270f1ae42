"""What a training of the policy cost: texts that were written, and rewards that were measured."""

from agent.train.policy.rest_em import CHUNK, Judged
from agent.train.policy.run import Training
from cao.files import canonical_json
from cao.types import Record
from policies.grid import grid


class Costs(Record):
    """What a training cost, its rewards as each was measured once, whoever was the first to want it.

    Attributes:
        drawn: texts that the policy wrote.
        valid: of them, that are strategies.
        measured: strategies that had to be measured for them, without the grid's where it was measured as a whole.
        questions: reward questions answered for these.
        seconds: that these took.
        naive_questions: what a fixed number of samples, none remembered and none raced, would have asked.
        grid_measured: points of the grid that were measured; 0 where the training did not ask for them all.
        grid_questions: reward questions answered for them.
        grid_seconds: that they took.
    """

    drawn: int
    valid: int
    measured: int
    questions: int
    seconds: float
    naive_questions: int
    grid_measured: int = 0
    grid_questions: int = 0
    grid_seconds: float = 0.0


def costs_of(training: Training) -> Costs:
    """Return what the texts and the rewards of a training cost.

    Args:
        training: a finished one.
    """
    samples, whole = training.log.samples, training.settings.landscape
    points, drawn = list[Judged](), list[Judged]()
    for name, situation in training.situations.items():
        known = {key: judged for key, judged in situation.known().items() if judged.questions}
        wanted = {canonical_json(s.strategy) for s in samples if s.situation == name and s.strategy is not None}
        on_grid = {canonical_json(p.canonical()) for p in grid(situation.context.families)} if whole else set[str]()
        points += [judged for key, judged in known.items() if key in on_grid]
        drawn += [judged for key, judged in known.items() if key in wanted - on_grid]
    return Costs(
        drawn=len(samples),
        valid=sum(sample.valid for sample in samples),
        measured=len(drawn),
        questions=sum(judged.questions for judged in drawn),
        seconds=round(sum(judged.seconds for judged in drawn), 1),
        naive_questions=_naive(training),
        grid_measured=len(points),
        grid_questions=sum(judged.questions for judged in points),
        grid_seconds=round(sum(judged.seconds for judged in points), 1),
    )


def cost_in_words(cost: Costs) -> str:
    """Return what a training cost, in a sentence or two."""
    grid_was = (
        f"{cost.grid_measured} points of the grid were measured before: {cost.grid_questions} reward questions, "
        f"{cost.grid_seconds:.0f} s. "
    )
    beside = "besides " if cost.grid_measured else ""
    return (
        f"{grid_was if cost.grid_measured else ''}{cost.drawn} texts were drawn, {cost.valid} were strategies, "
        f"{cost.measured} had to be measured {beside}({cost.questions} reward questions, where a fixed number of "
        f"samples without racing and memory asks {cost.naive_questions}; {cost.seconds:.0f} s)."
    )


def _naive(training: Training) -> int:
    """Return the reward questions that a fixed number of samples, none remembered and none raced, would have asked."""
    settings = training.settings
    most = settings.sampling.most
    samples = settings.iterations * most + min(CHUNK, most)
    return samples * len(training.situations) * settings.config.reward

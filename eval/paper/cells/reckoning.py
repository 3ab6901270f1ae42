"""How long the cells of a table will take on this machine, before anything is computed.

Rates are those that the choice of a dtype measured; a token that is trained on costs as much as three that are read.
"""

from collections.abc import Mapping

from agent.budget.plan import Speed, part_seconds
from agent.train.clock import span
from cao.tasks import get_task
from eval.baselines.cell import REHEARSED, prepares
from eval.baselines.descent import mean_tokens
from eval.baselines.ground import FEW, TARGET_TOKENS
from eval.baselines.registry import BASELINES
from eval.paper.cells.desk import Desk
from eval.paper.cells.kept import Key
from eval.paper.cells.reading import Reading, reading
from eval.paper.making import tokens_of_a_question
from eval.paper.rows import ROWS, WHOLE, Row

FROM_SOURCES = tuple(name for name, kind in BASELINES.items() if prepares(kind))
"""Baselines that are trained on the sources."""

TRAINED = 3.0
"""What training on a token costs, in tokens that are read."""

ONE_BY_ONE = 1.3
"""What the loop adds to the questions that it asks: proposals, priors, and the making of adapters."""

STARTS, ATTEMPTS = 3, 4
"""Models that a run measures on the reward part before its loop, and in it at most."""

FAMILIES = {"TTL": (1.0, 200), "LORA": (1.0, 0), "TTS": (20.0, 0), "Latent": (1.5, 0), "Calibrate": (0.0, 0)}
"""Family → how often the measured questions are asked, and questions that are trained on, of the paper's numbers."""


class Reckoning:
    """Reckons seconds from measured rates."""

    def __init__(self, desk: Desk) -> None:
        """Take the rates of the loaded model."""
        self._desk = desk
        self._pooled = dict[str, int]()
        compute = desk.lm.compute
        self._speed = Speed.of(compute, desk.lm.profile) if compute else Speed(1e-4, 1e-4, 1e-2)

    def cell(self, key: Key) -> float:
        """Return the seconds of one cell whose preparation is there."""
        task, row, options = get_task(key.task), ROWS[key.row], self._desk.shared.options
        measured = self._desk.shared.measured(key.task)
        reward, test = (part_seconds(self._speed, task, part, options.protocol) for part in measured)
        if row.name in WHOLE:
            return ONE_BY_ONE * ((STARTS + ATTEMPTS) * reward + 2 * test) + ATTEMPTS * self._speed.proposal
        shown = [part_seconds(self._speed, task, part, "likelihood") / len(part) for part in measured]
        if row.family:
            times, trained = FAMILIES.get(row.family, (1.0, 0))
            return STARTS * reward + ONE_BY_ONE * times * (reward + test) + TRAINED * trained * sum(shown)
        if not _trained(row):
            return reward + test
        budget = self._desk.budget(key.task)
        if not budget:
            return reward + test + self._by_itself(key)
        if key.row not in FROM_SOURCES:
            return reward + test + self._training(budget.alone)
        return reward + test + TRAINED * budget.steps * FEW * shown[0]

    def preparation(self, key: Key) -> float:
        """Return the seconds of what a baseline learns and chooses on the sources that serve a cell's task.

        Under its paper's own settings it chooses no rate.
        """
        budget = self._desk.budget(key.task)
        if not budget:
            own = self._reading(key)
            return self._training(own.preparing * tokens_of_a_question(self._desk.ground(key.task), own.objective))
        tokens = budget.preparing if key.row in FROM_SOURCES else 0
        if BASELINES[key.row].rated and len(budget.rates) > 1 and _trained(ROWS[key.row]):
            each = budget.adapting if key.row in FROM_SOURCES else budget.tried().alone
            tokens += REHEARSED * len(budget.rates) * each
        return self._training(tokens)

    def checkpoints(self, key: Key) -> float:
        """Return the seconds of the training of a source's checkpoints, of which a cell's adapter is made."""
        questions = self._desk.workshop.consolidation.preset.checkpoints.questions
        return self._training(questions * tokens_of_a_question(self._desk.ground(key.task)))

    def _by_itself(self, key: Key) -> float:
        """Return the seconds of what a baseline reads and writes of its target by its paper's own settings."""
        lm, task, own = self._desk.lm, get_task(key.task), self._reading(key)
        rows = own.objective.rows(lm, task, self._desk.shared.measured(key.task)[0], TARGET_TOKENS)
        return self._training(own.adapting * mean_tokens([rows])) + own.written * self._speed.one_of_many

    def _reading(self, key: Key) -> Reading:
        """Return what a baseline reads by its paper's own settings."""
        ground, task = self._desk.ground(key.task), get_task(key.task)
        if (name := ground.variant.name) not in self._pooled:
            self._pooled[name] = sum(len(ground.examples(source)) for source in ground.variant.sources)
        labelled = len(self._desk.shared.measured(key.task)[0])
        return reading(BASELINES[key.row].paper(), self._pooled[name], labelled, task.max_new_tokens)

    def _training(self, tokens: float) -> float:
        """Return the seconds of a training that reads so many tokens."""
        return TRAINED * tokens * (self._speed.read + self._speed.scored / TRAINED)


def _trained(row: Row) -> bool:
    """Return whether a row is trained on the target's questions; SeRL is, on labels that it votes for."""
    return row.reads.endswith("labels") or row.name == "serl"


def plan_text(cells: Mapping[str, tuple[int, float]], workers: int) -> str:
    """Return what there is to do, a line a row, and for how long.

    Args:
        cells: row or preparation → how many are missing, and their seconds.
        workers: that share them.
    """
    lines = [f"{name}: {count} to do, about {span(seconds)}" for name, (count, seconds) in cells.items()]
    total = sum(seconds for _, seconds in cells.values()) / workers
    return "\n".join([*lines, f"together about {span(total)} with {workers} worker{'s' if workers > 1 else ''}"])

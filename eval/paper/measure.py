"""A table of the paper, from its options to its result: cells are made where they are missing, and compared.

Source: CAO-LLM Tables 2, 5 and 6.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from agent.config import RunConfig
from agent.loop.run_folder import locked
from agent.train.engine.engines import check_engine
from agent.train.engine.settings import EngineSettings
from agent.train.generator.presets import REPORTED
from cao.errors import CaoError, InputError
from cao.files import sha256_bytes
from cao.machine.compute import settled
from cao.model.loading import check_device
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.same_problems import saw
from cao.types import Example
from eval.generation.bootstrap import Answers, Draws
from eval.generation.consolidation import serving
from eval.generation.scores import TaskAnswers
from eval.measured import measured_with
from eval.options import TablesOptions
from eval.paper.cells.desk import Desk, Shared
from eval.paper.cells.kept import Key
from eval.paper.cells.sources import trained_parts
from eval.paper.cells.work import Found, complete, look
from eval.paper.results import KINDS, Cell, RowResult, TableResult
from eval.paper.rows import ROWS, WHOLE
from eval.paper.sizes import SIZES, sized
from eval.paper.statistics import accuracy_interval, choice_of, mean_of, spent_of, versus
from eval.paper.tables import TABLES
from policies.trained import index_of, practised_on
from tools.detect_drift.reference import IN_DOMAIN
from tools.evaluate.statistics import RULE_CHOICE


def home(options: TablesOptions) -> Path:
    """Return the folder that a model's tables are written to where nothing else is said."""
    return Path("runs") / f"paper-{Path(options.model).name}"


def command_of(command: str, table: str, options: TablesOptions) -> str:
    """Return the command that measures one table of those that a command asks for, with the same seeds.

    Args:
        command: as it was given.
        table: the one.
        options: of the command.
    """
    if options.table != "all":
        return command
    one = re.sub(r"--table[= ]all\b", f"--table {table}", command)
    seeds = ",".join(map(str, sized(options).seeds))
    return one if table in TABLES or "--seeds" in one else f"{one} --seeds {seeds}"


class Measuring:
    """The tables of one model: models are loaded once, and cells that tables share are made once.

    Attributes:
        desk: this process's models.
    """

    def __init__(self, options: TablesOptions, engine: EngineSettings, command: str, progress: Progress) -> None:
        """Settle the sizes, and check what can be checked before anything is computed.

        Args:
            options: what is measured.
            engine: what runs the workers.
            command: that asked for it.
            progress: called during long work.

        Raises:
            InputError: an unknown task or row, or a device or dtype that cannot be used.
            UnavailableError: the engine is not at hand.
        """
        check_device(options.device)
        check_engine(engine)
        options = sized(options).model_copy(update={"dtype": settled(options.dtype, options.device)})
        unknown = [name for name in options.methods or () if name not in ROWS]
        if unknown:
            raise InputError(f"--methods {unknown[0]}: no such row; known: {', '.join(ROWS)}")
        of_tables = [row for number in TABLES if options.table in (number, "all") for row in TABLES[number].rows]
        elsewhere = [name for name in options.methods or () if of_tables and name not in of_tables]
        if elsewhere:
            has = ", ".join(of_tables)
            raise InputError(f"--methods {elsewhere[0]}: Table {options.table} has no such row; it has: {has}")
        self._tasks = options.tasks or REPORTED
        for task in self._tasks:
            get_task(task)
        work = options.work or home(options) / "work"
        work.mkdir(parents=True, exist_ok=True)
        self._engine, self._command, self._progress = engine, command, progress
        self.desk = Desk(Shared(options, work, command), progress)

    def plan(self, number: str) -> Found:
        """Return what a table has, what it lacks, and what cannot be had; nothing is made.

        Raises:
            InputError: a kept cell is damaged.
            UnavailableError: the model is not at hand.
        """
        return look(self._desk_of(number), self._keys(number))

    def table(self, number: str) -> TableResult:
        """Make what is missing of a table, and return it.

        Raises:
            InputError: a kept cell is damaged, or another process works in the folder.
            UnavailableError: the model is not at hand.
        """
        with locked(self.desk.shared.work, alone=True):
            keys = self._keys(number)
            desk = self._desk_of(number)
            found = complete(desk, look(desk, keys), self._engine, self._progress)
        return self._result(number, found)

    def _desk_of(self, number: str) -> Desk:
        """Return the desk, at which reasons name the command of one table."""
        shared = self.desk.shared
        self.desk.shared = replace(shared, command=command_of(self._command, number, shared.options))
        return self.desk

    def _keys(self, number: str) -> list[Key]:
        options = self.desk.shared.options
        rows = [ROWS[name] for name in TABLES[number].wanted(options.methods)]
        return [
            Key(row.name, task, seed)
            for task in self._tasks
            for row in rows
            for seed in (options.seeds if row.seeded else options.seeds[:1])
        ]

    def _result(self, number: str, found: Found) -> TableResult:
        table, desk, options = TABLES[number], self.desk, self.desk.shared.options
        rows = table.wanted(options.methods)
        asked = {task: test for task in self._tasks if (test := self._test(task)) is not None}
        answers = {task: _answers(task, test, rows, found, options) for task, test in asked.items()}
        kinds = {task: KINDS[0] if task in IN_DOMAIN else KINDS[1] for task in self._tasks}
        by_kind = {kind: {t: one for t, one in answers.items() if kinds[t] == kind} for kind in KINDS}
        compute, size = desk.lm.compute, SIZES[options.preset]
        return TableResult(
            **dict(measured_with(desk.lm, desk.shared.command, number)),
            machine=f"{compute.processor}, {compute.threads} threads" if compute else str(desk.lm.device),
            preset=options.preset,
            protocol=options.protocol,
            rules=options.rules if number == "2" else "equal",  # no other table has baselines
            share=size.share,
            adapting=size.adapting,
            rates=size.rates,
            reward=options.reward,
            rule_choice=RULE_CHOICE,
            accept=RunConfig.model_fields["accept"].default,
            limit=options.limit,
            seeds=options.seeds,
            tasks=tuple(self._tasks),
            kinds=kinds,
            chance={task: one.chance for task, one in answers.items()},
            n={task: len(test) for task, test in asked.items()},
            rows={row: _row(row, answers, by_kind, found) for row in rows},
            versus=versus(
                [pair for pair in table.pairs if set(pair) <= set(rows)],
                by_kind,
                ranked=options.protocol == "likelihood",
            ),
            questions={task: tuple(example.id for example in test) for task, test in asked.items()},
            practised=self._practised(rows),
            reworded=tuple(task for task in self._tasks if self._reworded(task)),
            choice=choice_of(table.chosen, answers) if table.chosen else None,
        )

    def _practised(self, rows: Sequence[str]) -> tuple[str, ...]:
        """Return the measured tasks on which the policy of whole runs practised."""
        options = self.desk.shared.options
        if not set(WHOLE) & set(rows) or options.policy != "local" or options.policy_settings.adapter != "auto":
            return ()
        known = practised_on(self.desk.lm.sha256, index_of(trained_parts(options)))
        return tuple(task for task in self._tasks if task in known)

    def _reworded(self, task: str) -> bool:
        """Return whether the generator that serves a task learnt from its problems in other words."""
        try:
            return saw(task, serving(self.desk.workshop.consolidation, task).sources)
        except CaoError:
            return False  # nothing serves it

    def _test(self, task: str) -> list[Example] | None:
        try:
            return self.desk.shared.measured(task)[1]
        except CaoError:
            return None  # the row says why


def _answers(
    task: str, test: Sequence[Example], rows: Sequence[str], found: Found, options: TablesOptions
) -> TaskAnswers:
    """Return what every row that a task has in all seeds answers, with the bootstrap's draws."""
    answers = dict[str, Answers]()
    for row in rows:
        keys = _keys_of(row, task, found)
        if keys and not any(key in found.absent for key in keys):
            cells = [found.cells[key] for key in keys]
            rules = [cell.kept.rule for cell in cells]
            answers[row] = Answers.of([cell.default for cell in cells], [cell.best for cell in cells], rules)
    asked = get_task(task)
    shares = [asked.guessing(example, options.protocol) for example in test]
    rng = np.random.default_rng(int(sha256_bytes(task.encode())[:8], 16))
    return TaskAnswers(answers, Draws.make(len(test), len(options.seeds), rng), float(np.mean(shares)))


def _keys_of(row: str, task: str, found: Found) -> list[Key]:
    known = [key for key in (*found.cells, *found.absent) if (key.row, key.task) == (row, task)]
    return sorted(known, key=lambda key: key.seed)


def _row(
    row: str, answers: Mapping[str, TaskAnswers], by_kind: Mapping[str, Mapping[str, TaskAnswers]], found: Found
) -> RowResult:
    means = {kind: mean for kind, of_kind in by_kind.items() if (mean := mean_of(row, of_kind)) is not None}
    absent = {key.task: f"seed {key.seed}: {why}" for key, why in found.absent.items() if key.row == row}
    cells = {task: _cell(row, task, one, found) for task, one in answers.items() if row in one.answers}
    spent = spent_of([cell.kept.spent for key, cell in found.cells.items() if key.row == row])
    if spent and ROWS[row].kind == "stage":
        spent = spent[0].model_copy(update={"tokens": _generators_tokens(found)}), spent[1]
    return RowResult(cells=cells, absent=absent, means=means, spent=spent)


def _generators_tokens(found: Found) -> int | None:
    """Return what the generators read in training, by the budgets of the baselines; None where none has one."""
    known = [cell.kept.depends_on.get("generators_tokens") for cell in found.cells.values()]
    tokens = [int(str(one)) for one in known if one is not None]
    return round(float(np.mean(tokens))) if tokens else None


def _cell(row: str, task: str, of_task: TaskAnswers, found: Found) -> Cell:
    answers = of_task.answers[row]
    kept = [found.cells[key].kept for key in _keys_of(row, task, found)]
    written = [one.parsable for one in kept if one.parsable is not None]
    return Cell(
        accuracy=answers.best.accuracy,
        ci95=accuracy_interval(of_task, row),
        default=answers.default.accuracy,
        log_loss=answers.best.log_loss,
        at_chance=answers.at_chance,
        seeds=answers.seeds,
        parsable=float(np.mean(written)) if written else None,
        notes=tuple(one.note for one in kept),
        adapters=tuple(one.adapter for one in kept),
        right=tuple("".join(str(int(one)) for one in seed) for seed in answers.best.correct),
    )

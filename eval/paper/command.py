"""``eval.tables --table 2|5|6|all``: measure, write the pages and the pictures, and judge the paper's claims."""

import json
import sys
from contextlib import closing

from agent.record.terminal import make_view
from agent.train.engine.settings import EngineSettings
from cao.types import Record
from eval.options import TablesOptions
from eval.paper.adapters import measure as adapters
from eval.paper.cells.reckoning import plan_text
from eval.paper.measure import Measuring, home
from eval.paper.page import name_of, write_page
from eval.paper.pictures import draw
from eval.paper.reasons import reason
from eval.paper.results import TableResult
from eval.paper.sizes import sized
from eval.paper.tables import TABLES
from eval.paper.verdicts.page import write_verdicts


class Absent(Record):
    """A table that cannot be measured here.

    Attributes:
        absent: why.
    """

    absent: str


def numbers(table: str) -> tuple[str, ...]:
    """Return the tables that ``--table`` asks for."""
    return tuple(TABLES) if table == "all" else (table,)


def show_plan(options: TablesOptions, engine: EngineSettings, command: str, *, as_json: bool) -> int:
    """Print what is to be done for the tables and how long it is reckoned to take, and make no cell.

    Raises:
        InputError: the options cannot be used.
        UnavailableError: the model is not at hand.
    """
    with closing(make_view()) as view:
        measuring = Measuring(options, engine, command, view.progress)
        plans = {number: measuring.plan(number) for number in numbers(options.table)}
    if as_json:
        every = {number: {"to_do": one.plan(), "absent": one.reasons()} for number, one in plans.items()}
        sys.stdout.write(json.dumps(every) + "\n")
    for number, one in plans.items() if not as_json else ():
        absent = "".join(f"n/a, {count} cells: {reason}\n" for reason, count in one.reasons().items())
        sys.stdout.write(f"Table {number}\n{plan_text(one.plan(), options.workers)}\n{absent}")
    if options.table == "all" and not as_json:
        sys.stdout.write(f"{', '.join(adapters.TABLES)}: come after these, in one process; no plan is made of them\n")
    return 0


def judge(options: TablesOptions, *, as_json: bool) -> int:
    """Write and print the verdicts on the tables that lie in a folder; nothing is measured.

    Raises:
        InputError: a file there is no table's, or tables of several models lie there.
    """
    found, page = write_verdicts(options.out or home(options), options.protocol)
    listed = json.dumps([one.model_dump(mode="json") for one in found])
    sys.stdout.write(f"{listed}\n" if as_json else f"{page.read_text(encoding='utf-8')}\n{page}\n")
    return 0


def measure(options: TablesOptions, engine: EngineSettings, command: str, *, as_json: bool) -> int:
    """Measure the tables that the options name, write their pages and the verdicts, and print them.

    Raises:
        InputError: the options or a kept cell cannot be used.
        UnavailableError: the model is not at hand.
    """
    folder, results = options.out or home(options), dict[str, Record]()
    with closing(make_view()) as view:
        measuring = Measuring(options, engine, command, view.progress)
        for number in numbers(options.table):
            result: TableResult = measuring.table(number)
            name = name_of(number, options.protocol, options.rules)
            results[number] = result
            page = write_page(result, folder, draw(result, folder, name))
            judged = f"{write_verdicts(folder, options.protocol)[1]}\n" if options.rules == "equal" else ""
            if not as_json:
                sys.stdout.write(f"{page.read_text(encoding='utf-8')}\n{page}\n{judged}")
        for name in adapters.TABLES if options.table == "all" else ():
            one = sized(options).model_copy(update={"table": name, "out": folder})
            alone = command.replace("--table all", f"--table {name}")
            try:
                results[name], page = adapters.measure(one, alone, view.progress)
            except Exception as error:  # noqa: BLE001  (a defect of one table does not cost the others)
                why = reason(error, alone)
                results[name] = Absent(absent=why)
                view.say(f"{name}: n/a: {why}")
                continue
            write_verdicts(folder)
            if not as_json:
                sys.stdout.write(f"{page}\n")
    if as_json:
        every = {number: result.model_dump(mode="json") for number, result in results.items()}
        sys.stdout.write(json.dumps(every if options.table == "all" else every[options.table]) + "\n")
    return 0

"""``eval.tables --table 2|5|6|all``: measure, write the pages and the pictures, and judge the paper's claims."""

import json
import sys
from contextlib import closing

from agent.record.terminal import make_view
from agent.train.engine.settings import EngineSettings
from cao.errors import InputError
from cao.types import AnswerProtocol, Record
from eval.options import TablesOptions
from eval.paper.adapters import measure as adapters
from eval.paper.cells.reckoning import plan_text
from eval.paper.measure import Measuring, command_of, home
from eval.paper.page import name_of, write_page
from eval.paper.pictures import draw
from eval.paper.reasons import reason
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
    folder, results, every = options.out or home(options), dict[str, Record](), options.table == "all"
    with closing(make_view()) as view:
        measuring = Measuring(options, engine, command, view.progress)
        for name in (*numbers(options.table), *(adapters.TABLES if every else ())):
            alone = command_of(command, name, options)
            try:
                if name in adapters.TABLES:
                    one = sized(options).model_copy(update={"table": name, "out": folder})
                    results[name], page = adapters.measure(one, alone, view.progress)
                else:
                    result = measuring.table(name)
                    drawn = draw(result, folder, name_of(name, result.protocol, result.rules))
                    results[name], page = result, write_page(result, folder, drawn)
            except Exception as error:
                if not every:
                    raise
                why = reason(error, alone)  # a defect of one table does not cost the others
                results[name] = Absent(absent=why)
                view.say(f"{name}: n/a: {why}")
                continue
            if not as_json:
                text = page.read_text(encoding="utf-8") if name in TABLES else ""
                sys.stdout.write(f"{text}\n{page}\n".lstrip())
        protocols: list[AnswerProtocol] = [options.protocol] if every or options.rules == "equal" else []
        if every and options.protocol != "likelihood":  # beside which tables of adapters are judged
            protocols.append("likelihood")
        for protocol in protocols:
            try:
                judged = write_verdicts(folder, protocol)[1]
                sys.stdout.write("" if as_json else f"{judged}\n")
            except InputError as error:  # another table's file lies in the way; what was measured is written
                view.say(f"verdicts: not written: {error}")
    if as_json:
        told = {number: result.model_dump(mode="json") for number, result in results.items()}
        sys.stdout.write(json.dumps(told if every else told[options.table]) + "\n")
    return 0

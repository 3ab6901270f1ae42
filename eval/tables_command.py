"""The command ``eval.tables`` behind its options: measure one claim and write its page."""

import json
import sys
from contextlib import closing
from pathlib import Path

from agent.record.terminal import make_view
from agent.train.engine.settings import EngineSettings, read_engine
from agent.train.files import read_json
from cao.types import Record
from eval.continual import measure as continual_measure
from eval.continual import page as continual_page
from eval.drift import measure as drift_measure
from eval.drift import page as drift_page
from eval.generation import measure as generation_measure
from eval.generation import page as generation_page
from eval.options import TablesOptions
from eval.paper import command as paper
from eval.paper.adapters import measure as adapters
from eval.paper.tables import TABLES
from eval.policies import acceptance, labels, labels_page, sources, starts, starts_page
from eval.policies import measure as policies_measure
from eval.policies import page as policies_page


def measure(options: TablesOptions, file: Path | None, command: str, *, as_json: bool) -> int:
    """Measure what the options name, write its page and print it.

    Args:
        options: what the command takes.
        file: a configuration file, for the engine of the workers.
        command: as it was given, for the page.
        as_json: print the figures as an object, else the page.

    Raises:
        InputError: what is to be measured cannot be.
        UnavailableError: a model or data is not at hand.
    """
    if options.table == "verdicts":
        return paper.judge(options, as_json=as_json)
    if options.table in (*TABLES, "all"):
        run = paper.show_plan if options.dry_run else paper.measure
        return run(options, read_engine(file), command, as_json=as_json)
    tables = {
        **dict.fromkeys(adapters.TABLES, _adapters),
        "drift": _drift,
        "generation": _generation,
        "policies": _policies,
        "acceptance": _acceptance,
        "labels": _labels,
        "starts": _starts,
        "continual": _continual,
    }
    one = tables[options.table]
    result, page = one(options, read_engine(file), command)
    figures = json.dumps(result.model_dump(mode="json"))
    sys.stdout.write(f"{figures}\n" if as_json else f"{page.read_text(encoding='utf-8')}\n{page}\n")
    return 0


def _drift(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    out = asked.out or Path()
    path = out / "drift.json"
    before = read_json(path, dict[str, object]) if asked.only and path.exists() else {}
    with closing(make_view()) as view:
        result = drift_measure.measure(command, asked.windows, asked.seed, view.progress, asked.only, before)
    return result, drift_page.write_page(result, out)


def _adapters(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        return adapters.measure(asked, command, view.progress)


def _generation(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        result = generation_measure.measure(asked, engine, command, view.progress)
    return result, generation_page.write_page(result, asked.out or asked.folder / "report")


def _policies(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        result = policies_measure.measure(asked, engine, command, view.progress)
    usual = asked.training[-1] / "report" if asked.training else sources.FOLDER
    return result, policies_page.write_page(result, asked.out or usual)


def _acceptance(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        result = acceptance.measure(command, asked.seed, progress=view.progress)
    return result, acceptance.write_page(result, asked.out or Path())


def _labels(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        result = labels.measure(asked, command, view.progress)
    return result, labels_page.write_page(result, asked.out or labels.FOLDER)


def _starts(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        result = starts.measure(asked, command, view.progress)
    return result, starts_page.write_page(result, asked.out or starts_page.FOLDER)


def _continual(asked: TablesOptions, engine: EngineSettings, command: str) -> tuple[Record, Path]:
    with closing(make_view()) as view:
        result = continual_measure.measure(asked, command, view.progress)
    return result, continual_page.write_page(result, asked.out or continual_measure.FOLDER)

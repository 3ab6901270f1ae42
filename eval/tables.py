"""``python -m eval.tables --table drift|generation|policies``: measure a claim and write its page."""

import argparse
import json
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cao.command_line import compute_options, model_path, names_list, positive, quiet_libraries, run_command
from cao.errors import InputError

if TYPE_CHECKING:
    from cao.types import Record

EPILOG = """drift: false alarms, power, kinds, naming, streams and speed of the drift sense; half an hour on two cores.
generation: what generated and aligned adapters gain over the base model and over controls that share the
form of an answer, how alike adapters are within and between tasks, and what one costs. policies: what the trained
policy's proposals come to beside random and fixed ones, an untrained model's, a bandit's and the best of an exhaustive
grid. The last two may be stopped at any time: what is scored is kept beside the folder that they are given, and the
same command goes on. Exit status: 0 written; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted; 1 a defect.
"""


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(name) for name in names_list(text))


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    summary = (__doc__ or "").split("\n")[0]
    p = argparse.ArgumentParser(prog="python -m eval.tables", description=summary, epilog=EPILOG)
    a = p.add_argument
    a("--table", choices=["drift", "generation", "policies"], required=True, help="what is measured")
    a("--consolidation", metavar="DIR", type=Path, help="generation: a folder of python -m agent.consolidate")
    a(
        "--training",
        metavar="DIR",
        type=Path,
        action="append",
        help="policies: a folder of python -m agent.train_policy; may be given twice, the one to judge last",
    )
    a("--windows", metavar="N", type=positive, default=2000, help="drift: windows of a cell (default %(default)s)")
    a("--seed", metavar="S", type=int, default=0, help="drift: of the draws (default %(default)s)")
    a(
        "--only",
        metavar="NAME,...",
        type=names_list,
        default=(),
        help="drift: measure these again, keep the rest of the page",
    )
    a(
        "--tasks",
        metavar="NAME,...",
        type=names_list,
        help="default: generation: six in-domain, six unseen; policies: all",
    )
    a("--split", choices=["reward", "test"], default="test", help="generation: part of a task (default %(default)s)")
    a("--limit", metavar="N", type=positive, default=200, help="questions of a task, at most (default %(default)s)")
    a("--seeds", metavar="S,...", type=_seeds, default=(0, 1, 2), help="choices of support prompts (default 0,1,2)")
    a("--full-cost", action="store_true", help="time a whole training for the cost, not its first steps")
    a(
        "--out",
        metavar="DIR",
        type=Path,
        help="folder of the page (default: report/ in the consolidation's or training's folder, or here)",
    )
    a("--workers", metavar="N", type=positive, default=1, help="processes that share the work (default 1)")
    a("--config", metavar="FILE.toml", type=Path, help="its table [engine] says what runs the workers")
    compute_options(p)
    a("--set", metavar="model_path=DIR", action="append", default=[], dest="assignments", help="the model's own folder")
    a("--json", action="store_true", help="print one JSON object on standard output and nothing else there")
    a("--offline", action="store_true", help="never touch the network")
    a("--debug", action="store_true", help="show tracebacks")
    return p


def _measure(arguments: argparse.Namespace, command: str) -> int:
    measure = {"drift": _drift, "generation": _generation, "policies": _policies}[arguments.table]
    result, page = measure(arguments, command)
    figures = json.dumps(result.model_dump(mode="json"))
    sys.stdout.write(f"{figures}\n" if arguments.json else f"{page.read_text(encoding='utf-8')}\n{page}\n")
    return 0


def _drift(arguments: argparse.Namespace, command: str) -> tuple["Record", Path]:
    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from agent.train.files import read_json  # noqa: PLC0415
    from eval.drift.measure import measure  # noqa: PLC0415
    from eval.drift.page import write_page  # noqa: PLC0415

    if arguments.seed < 0:
        raise InputError(f"--seed {arguments.seed}: must be 0 or above")
    out = arguments.out or Path()
    before = read_json(out / "drift.json") if arguments.only and (out / "drift.json").exists() else {}
    with closing(make_view()) as view:
        result = measure(command, arguments.windows, arguments.seed, view.progress, arguments.only, before)
    return result, write_page(result, out)


def _generation(arguments: argparse.Namespace, command: str) -> tuple["Record", Path]:
    if arguments.consolidation is None:
        raise InputError("--table generation needs --consolidation DIR, a folder of python -m agent.consolidate")

    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from agent.train.engine.settings import read_engine  # noqa: PLC0415
    from eval.generation.measure import Options, measure  # noqa: PLC0415
    from eval.generation.page import write_page  # noqa: PLC0415
    from eval.generation.recipes import REPORTED  # noqa: PLC0415

    options = Options(
        folder=arguments.consolidation,
        tasks=arguments.tasks or REPORTED,
        split=arguments.split,
        limit=arguments.limit,
        seeds=arguments.seeds,
        device=arguments.device,
        dtype=arguments.dtype,
        offline=arguments.offline,
        model_path=model_path(arguments.assignments),
        full_cost=arguments.full_cost,
        workers=arguments.workers,
        engine=read_engine(arguments.config),
    )
    with closing(make_view()) as view:
        result = measure(options, command, view.progress)
    return result, write_page(result, arguments.out or arguments.consolidation / "report")


def _policies(arguments: argparse.Namespace, command: str) -> tuple["Record", Path]:
    if arguments.training is None:
        raise InputError("--table policies needs --training DIR, a folder of python -m agent.train_policy")

    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from agent.train.engine.settings import read_engine  # noqa: PLC0415
    from eval.policies.measure import Options, measure  # noqa: PLC0415
    from eval.policies.page import write_page  # noqa: PLC0415

    options = Options(
        folders=tuple(arguments.training),
        tasks=arguments.tasks,
        seeds=arguments.seeds,
        limit=arguments.limit,
        workers=arguments.workers,
        engine=read_engine(arguments.config),
        device=arguments.device,
        dtype=arguments.dtype,
        offline=arguments.offline,
        model_path=model_path(arguments.assignments),
    )
    with closing(make_view()) as view:
        result = measure(options, command, view.progress)
    return result, write_page(result, arguments.out or arguments.training[-1] / "report")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)
    quiet_libraries(offline=arguments.offline)
    command = f"python -m eval.tables {shlex.join(sys.argv[1:] if argv is None else argv)}"
    return run_command(lambda: _measure(arguments, command), debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m agent.run --task gsm8k``: adapt the language model to a task, and say whether it helped.

Only the arguments are handled here; ``agent.loop.request`` checks what they ask for, and the work begins in
``agent.session`` after that, so that ``--help``, a mistake and ``--dry-run`` are answered at once.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from cao.command_line import compute_options, quiet_libraries, run_command

EPILOG = """exit status: 0 finished, improved or not (it says which); 2 bad input or configuration; 3 something needed
is not available (with the command that provides it); 130 interrupted (go on with --resume); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog="python -m agent.run", description=__doc__.split("\n")[0], epilog=EPILOG)
    a = p.add_argument
    a("--task", metavar="NAME|FILE.jsonl", help="a known task, or your own questions")
    a("--config", metavar="FILE.toml", type=Path, help="configuration file; the command line wins over it")
    a("--model", metavar="NAME", help="model profile (default smollm2-135m)")
    a("--policy", metavar="NAME", help="who proposes strategies: local, openai, fixed, random (default local)")
    a("--describer", metavar="NAME", help="who describes the task: cached, local, openai (default cached)")
    a(
        "--adapter",
        choices=["none", "generated", "aligned"],
        help="what the loop may start from besides the deployed model (default aligned: generated and aligned)",
    )
    a(
        "--reference",
        metavar="NAME[,NAME]|FILE",
        nargs="+",
        action="extend",
        help="what the deployed model is for; drift is judged against it, and without drift the run ends "
        "(--set when_no_drift=go_on adapts all the same)",
    )
    a("--support", metavar="N", type=int, help="unlabelled prompts for the tools (default 32)")
    a("--reward", metavar="N", type=int, help="questions that steer the loop (default 96)")
    a("--test", metavar="N", type=int, help="questions read once, at the end (default 200)")
    a("--max-attempts", metavar="N", type=int, help="proposals at most (default 4)")
    a("--minutes", metavar="N", type=float, help="time budget: sizes, attempts and strategies are cut to fit it")
    a("--accept", choices=["confident", "any"], help="when a strategy counts as better (default confident)")
    a("--seed", metavar="N", type=int, help="of every random choice (default 0)")
    a("--out", metavar="DIR", help="folder of runs (default runs)")
    a("--resume", metavar="RUN_ID", help="go on with an interrupted run")
    compute_options(p, configured=True)
    a(
        "--set",
        metavar="key=value",
        action="append",
        default=[],
        dest="assignments",
        help="any configuration key",
    )
    a("--offline", action="store_true", default=None, help="never touch the network")
    a("--json", action="store_true", help="print run.json's object on standard output and nothing else there")
    a("--dry-run", action="store_true", help="print the plan and its estimated cost, compute nothing")
    a("--debug", action="store_true", help="show tracebacks")
    return p


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration keys that the command line gave explicitly."""
    keys = (
        "task",
        "model",
        "policy",
        "describer",
        "adapter",
        "support",
        "reward",
        "test",
        "max_attempts",
        "minutes",
        "accept",
        "seed",
    )
    given = {key: getattr(arguments, key) for key in (*keys, "out", "device", "dtype", "offline")}
    if arguments.reference is not None:
        from agent.config import named_sources  # noqa: PLC0415  (pydantic; arguments come first)

        given["reference"] = named_sources(arguments.reference)
    return {key: value for key, value in given.items() if value is not None}


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    began = time.monotonic()
    arguments = parser().parse_args(argv)
    quiet_libraries(offline=bool(arguments.offline))

    def body() -> int:
        from agent.loop.request import check_remote, show_plan, understand  # noqa: PLC0415  (arguments come first)

        asked = understand(
            options(arguments), file=arguments.config, assignments=arguments.assignments, resume=arguments.resume
        )
        if arguments.dry_run:
            show_plan(asked, as_json=arguments.json)
            return 0
        check_remote(asked.config)
        from agent import session  # noqa: PLC0415  (seconds to import; mistakes are told first)

        return session.command(asked, as_json=arguments.json, began=began)

    return run_command(body, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())

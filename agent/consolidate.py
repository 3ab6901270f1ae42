"""``python -m agent.consolidate --model smollm2-135m``: train stages 1 and 2 for a base model.

It may be stopped at any time; the same command goes on where it was. With ``--install`` the result is found by
``python -m agent.run`` without a flag.
"""

import argparse
import json
import sys
from pathlib import Path

from cao.command_line import compute_options, quiet_libraries, run_command

EPILOG = """The same command goes on with a folder that is half finished; other settings in its place are refused. Exit
status: 0 finished; 2 bad input or configuration; 3 something needed is not available (with the command that provides
it); 130 interrupted (the same command goes on); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog="python -m agent.consolidate", description=__doc__.split("\n")[0], epilog=EPILOG)
    a = p.add_argument
    a("--model", metavar="NAME", default="smollm2-135m", help="model profile (default %(default)s)")
    a("--preset", metavar="NAME", help="embedded, paper-0.5b or paper-1.5b (default: the model's own)")
    a("--seed", metavar="N", type=int, default=0, help="of every random choice (default 0)")
    a("--out", metavar="DIR", default="runs", help="folder of runs (default runs)")
    a("--workers", metavar="N", type=int, default=1, help="processes that share the tasks and variants (default 1)")
    a("--config", metavar="FILE.toml", type=Path, help="its table [engine] says what runs the workers (default: here)")
    compute_options(p)
    a(
        "--set",
        metavar="key=value",
        action="append",
        default=[],
        dest="assignments",
        help='a preset\'s value, such as generator.steps=100 or sources=["arc_easy","boolq"]; or model_path=DIR',
    )
    a("--install", action="store_true", help="put the finished weights where agent.run finds them")
    a("--offline", action="store_true", help="never touch the network")
    a("--json", action="store_true", help="print the index as JSON on standard output and nothing else there")
    a("--debug", action="store_true", help="show tracebacks")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)
    quiet_libraries(offline=arguments.offline)

    def body() -> int:
        from agent.train.engine.settings import read_engine  # noqa: PLC0415
        from agent.train.generator.index import install, summary, write_index  # noqa: PLC0415  (imports torch)
        from agent.train.generator.run import consolidate  # noqa: PLC0415
        from agent.train.generator.settings import Settings  # noqa: PLC0415

        settings = Settings(
            model=arguments.model,
            preset=arguments.preset,
            seed=arguments.seed,
            out=Path(arguments.out),
            workers=arguments.workers,
            device=arguments.device,
            dtype=arguments.dtype,
            assignments=tuple(arguments.assignments),
            offline=arguments.offline,
            engine=read_engine(arguments.config),
        )
        folder = consolidate(settings)
        index = write_index(settings, folder)
        if arguments.install:
            install(folder)
        if arguments.json:
            sys.stdout.write(json.dumps(index, indent=2) + "\n")
        else:
            sys.stdout.write(summary(folder, installed=arguments.install))
        return 0

    return run_command(body, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())

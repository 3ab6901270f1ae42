"""``python -m agent.train_policy --model smollm2-135m``: train the local policy by ReST-EM.

It may be stopped at any time; the same command goes on with the sample it was at. With ``--install`` the trained policy
is what ``python -m agent.run`` decides with.
"""

import argparse
import json
import sys
from pathlib import Path

from cao.command_line import compute_options, names_list, quiet_libraries, run_command

EPILOG = """Everything lies in OUT/policy-MODEL-*: samples.jsonl has each sample with its raw text, validity,
reward and cost; policy-N is the adapter after iteration N; report.md says what came of it. What
strategies are worth is kept in OUT/situations and never measured twice. Exit status: 0 finished; 2 bad
input or configuration; 3 something needed is not available (with the command that provides it); 130
interrupted (the same command goes on); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog="python -m agent.train_policy", description=__doc__.split("\n")[0], epilog=EPILOG)
    a = p.add_argument
    a(
        "--model",
        metavar="NAME",
        default="smollm2-135m",
        help="model profile, adapted and deciding (default %(default)s)",
    )
    a("--tasks", metavar="NAME,...", type=names_list, help="learn on these tasks' train parts (default: eight)")
    a("--held-out", metavar="NAME,...", type=names_list, help="only measure on these (default: four others)")
    a("--seeds", metavar="N", type=int, default=2, help="draws of questions for each task (default %(default)s)")
    a("--iterations", metavar="N", type=int, default=2, help="of sampling and fine-tuning (default %(default)s)")
    a("--samples", metavar="N", type=int, default=20, help="samples of each situation (default %(default)s)")
    a(
        "--sequential",
        action="store_true",
        help="stop sampling a situation once it is clear whether it has winning strategies; --samples at most",
    )
    a("--budget", metavar="N", type=int, help="TTL that trains on more than N prompts earns nothing (default: any may)")
    a("--landscape", action="store_true", help="measure the whole grid of strategies in every situation first")
    a(
        "--warm-start",
        action="store_true",
        help="first fine-tune on what improves the model of the grid's points, as far as measured; off-policy",
    )
    a("--epochs", metavar="N", type=int, default=4, help="of each fine-tuning (default %(default)s)")
    a("--support", metavar="N", type=int, default=32, help="unlabelled prompts of a situation (default %(default)s)")
    a("--reward", metavar="N", type=int, default=96, help="reward questions of a situation (default %(default)s)")
    a("--accept", choices=["confident", "any"], default="confident", help="what counts as improved (default confident)")
    a("--seed", metavar="N", type=int, default=0, help="of every draw (default 0)")
    a("--out", metavar="DIR", default="runs", help="folder of runs (default runs)")
    a("--workers", metavar="N", type=int, default=1, help="processes that share the situations (default 1)")
    a("--config", metavar="FILE.toml", type=Path, help="its table [engine] says what runs the workers (default: here)")
    compute_options(p)
    a(
        "--set",
        metavar="key=value",
        action="append",
        default=[],
        dest="assignments",
        help="any configuration key of a run",
    )
    a("--install", action="store_true", help="put the trained policy where agent.run finds it")
    a("--offline", action="store_true", help="never touch the network")
    a("--json", action="store_true", help="print the report as JSON on standard output and nothing else there")
    a("--debug", action="store_true", help="show tracebacks")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)
    quiet_libraries(offline=arguments.offline)

    def body() -> int:
        from agent.config import make_config  # noqa: PLC0415  (this and the others: seconds to import)
        from agent.record.terminal import make_view  # noqa: PLC0415
        from agent.train.engine.settings import read_engine  # noqa: PLC0415
        from agent.train.policy import report, run  # noqa: PLC0415
        from agent.train.policy.fine_tune import Tuning  # noqa: PLC0415
        from agent.train.policy.rest_em import Sampling  # noqa: PLC0415
        from agent.train.policy.settings import DEFAULT_HELD_OUT, DEFAULT_TASKS, Settings  # noqa: PLC0415

        names = ("model", "support", "reward", "accept", "seed", "device", "dtype", "offline")
        options = {name: getattr(arguments, name) for name in names}
        tasks = arguments.tasks or DEFAULT_TASKS
        held_out = arguments.held_out or tuple(name for name in DEFAULT_HELD_OUT if name not in tasks)
        settings = Settings(
            config=make_config(None, {"task": "practice", **options}, arguments.assignments),
            tasks=tuple(tasks),
            held_out=tuple(held_out),
            seeds=arguments.seeds,
            iterations=arguments.iterations,
            sampling=Sampling(arguments.samples, arguments.sequential, arguments.seed),
            tuning=Tuning(epochs=arguments.epochs, seed=arguments.seed),
            budget=arguments.budget,
            landscape=arguments.landscape,
            warm_start=arguments.warm_start,
            out=Path(arguments.out),
            seed=arguments.seed,
            workers=arguments.workers,
            engine=read_engine(arguments.config),
        )
        view = make_view()
        try:
            training = run.train(settings, view.progress)
        finally:
            view.close()
        found = report.write_report(training)
        if arguments.install:
            report.install(training, found)
        sys.stdout.write(json.dumps(found) + "\n" if arguments.json else _summary(settings.folder, arguments.install))
        return 0

    return run_command(body, debug=arguments.debug)


def _summary(folder: Path, installed: bool) -> str:
    told = (folder / "report.md").read_text(encoding="utf-8")
    what = "Installed: agent.run decides with it." if installed else "Add --install to have agent.run decide with it."
    return f"{told}\n{folder}\n{what}\n"


if __name__ == "__main__":
    sys.exit(main())

"""The command ``agent.train_policy`` behind its options: train, report, install and say what came of it."""

import json
import sys
from pathlib import Path

from agent.config import RunConfig
from agent.record.terminal import make_view
from agent.train.engine.settings import EngineSettings
from agent.train.policy import report, run
from agent.train.policy.options import DEFAULT_HELD_OUT, TrainPolicyOptions
from agent.train.policy.rest_em import Sampling
from agent.train.policy.settings import LEAST_STEPS, Settings, Tuning
from policies.trained import index_of


def run_options(options: TrainPolicyOptions, config: RunConfig, engine: EngineSettings, *, as_json: bool) -> int:
    """Train the policy as the command line asks and return the exit status.

    Args:
        options: what is trained, and for how long.
        config: of the runs that the situations stand for.
        engine: what runs the workers.
        as_json: print the report as JSON, else as a page.
    """
    held_out = options.held_out or tuple(name for name in DEFAULT_HELD_OUT if name not in options.tasks)
    shared = {"tasks", "seeds", "iterations", "bare", "budget", "landscape", "warm_start", "workers"}
    settings = Settings(
        **options.model_dump(include=shared),
        config=config,
        held_out=held_out,
        sampling=Sampling(most=options.samples, sequential=options.sequential, seed=config.seed),
        tuning=Tuning(epochs=options.epochs, least_steps=LEAST_STEPS, seed=config.seed),
        out=Path(config.out),
        seed=config.seed,
        engine=engine,
    )
    view = make_view()
    try:
        training = run.train(settings, view.progress)
    finally:
        view.close()
    result = report.write_report(training)
    if options.install:
        report.install(training, result, index_of(config.pretrained))
    sys.stdout.write(
        json.dumps(result.model_dump(mode="json")) + "\n" if as_json else _summary(settings.folder, options.install)
    )
    return 0


def _summary(folder: Path, installed: bool) -> str:
    tables = (folder / "report.md").read_text(encoding="utf-8")
    what = "Installed: agent.run decides with it." if installed else "Add --install to have agent.run decide with it."
    return f"{tables}\n{folder}\n{what}\n"

"""``python -m agent.train_policy --model smollm2-135m``: train the local policy by ReST-EM.

It may be stopped at any time; the same command goes on with the sample it was at. With ``--install`` the trained policy
is what ``python -m agent.run`` decides with.
"""

import argparse
import sys

from agent.config import RunConfig, make_config, settings_of
from agent.train.engine.settings import read_engine
from agent.train.policy.options import RUN_OPTIONS, TrainPolicyOptions
from cao.command_line import run_main
from cao.options import add_common, add_options, command_parser, given

EPILOG = """Everything lies in OUT/policy-MODEL-*: samples.jsonl has each sample with its raw text, validity, reward
and cost; policy-N is the adapter after iteration N, fine-tuning-N-losses.json the losses of its steps;
report.md says what came of it. What strategies are worth is kept in OUT/situations and never measured
twice. Exit status: 0 finished; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted (the same command goes on); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("agent.train_policy", __doc__, EPILOG)
    add_options(p, RunConfig, RUN_OPTIONS)
    add_options(p, TrainPolicyOptions)
    add_common(p, config=True, settable="any configuration key of a run")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(parser(), _train, argv)


def _train(arguments: argparse.Namespace) -> int:
    options = settings_of(TrainPolicyOptions, arguments, "train_policy", settable=False)
    asked = {**given(arguments, RunConfig), "task": "practice"}
    config, engine = make_config(arguments.config, asked, arguments.assignments), read_engine(arguments.config)

    from agent.train.policy.command import run_options  # noqa: PLC0415  (seconds to import; mistakes are reported first)

    return run_options(options, config, engine, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())

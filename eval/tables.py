"""``python -m eval.tables --table NAME``: measure a claim and write its page."""

import argparse
import shlex
import sys

from cao.command_line import run_main
from cao.configuration import assigned
from cao.errors import InputError
from cao.options import SET, add_common, add_options, command_parser
from cao.tasks import get_task
from eval.options import TablesOptions
from eval.settings import settings_of

EPILOG = """2, 5, 6, all: the paper's tables, the project's method and its baselines on tasks that they never saw, each
family of strategies alone, what each stage adds, and a verdict on each claim; every cell is kept, and the same command
goes on. 3, 4, figures, cost: gradients between tasks, sparsity and norms, where adapters change the model and how alike
they are, and what they cost. drift: false alarms, power, kinds, naming, streams and speed of the drift sense; half
an hour on two cores. generation: what generated and aligned adapters gain over the base model and over controls that
share the form of an answer, how alike adapters are within and between tasks, and what one costs. policies: what the
trained policy's proposals come to beside random and fixed ones, an untrained model's, a bandit's and the best of an
exhaustive grid. starts: what the start of a run gains on test, the base model and the adapters under the same answer
rules. labels: what LoRA and Calibrate come to that are fitted on half of the labelled reward questions, beside the
base model and the start of a run, which no label made. These three may be stopped at any time: what one of them, or
agent.train_policy, has scored in a situation is kept for all, and the same command goes on. continual: a stream of
tasks of which one comes again, under adaptation on alarms, beside never adapting and LoRA on the labels of the last
window; it goes on where it was stopped, too. acceptance: how often the rules of acceptance take simulated candidates
that are no better; a minute. Exit status: 0 written; 2 bad input or configuration; 3 something
needed is not available (with the command that provides it); 130 interrupted; 1 a defect.
"""


OF_KNOWN_TASKS = ("2", "3", "4", "5", "6", "figures", "cost", "all", "generation")
"""Tables whose generators and baselines are told apart by what tasks they saw, which is not known of a user's file."""


_PAPERS = ("2", "5", "6", "all")
_ADAPTERS = ("3", "4", "figures", "cost")
_SITUATIONS = ("policies", "labels", "starts")
_WITH_A_MODEL = (*_PAPERS, *_ADAPTERS, *_SITUATIONS, "generation", "continual")

READ_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("preset", "policy"), _PAPERS),
    "protocol": (*_PAPERS, "verdicts"),
    "rules": ("2", "all"),
    "methods": (*_PAPERS, "generation"),
    "consolidation": (*_PAPERS, *_ADAPTERS, "generation"),
    "training": ("policies",),
    **dict.fromkeys(("windows", "only"), ("drift",)),
    "seed": ("drift", "acceptance"),
    **dict.fromkeys(("tasks", "seeds", "model_path", "pretrained", "device", "dtype"), _WITH_A_MODEL),
    "model": (*_WITH_A_MODEL, "verdicts"),
    "split": ("generation",),
    **dict.fromkeys(("segment", "window"), ("continual",)),
    "reward": (*_PAPERS, *_SITUATIONS, "generation"),
    "limit": (*_PAPERS, *_SITUATIONS, "generation", "continual"),
    "batches": ("3", "all"),
    "maml_tokens": ("3", "4", "all"),
    "full_cost": ("generation",),
    "workers": (*_PAPERS, "generation", "policies"),
    "work": (*_PAPERS, "3", "4", *_SITUATIONS, "generation"),
    "dry_run": _PAPERS,
}
"""Setting → the tables that read it; all read ``table``, ``out`` and ``offline``."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.tables", __doc__, EPILOG)
    add_options(p, TablesOptions)
    add_common(p, config=True, settable=SET)
    return p


def _measure(arguments: argparse.Namespace, command: str) -> int:
    options = settings_of(TablesOptions, arguments, "tables")
    if options.dry_run and options.table not in (planned := READ_BY["dry_run"]):
        raise InputError(
            f"--dry-run: --table {options.table} has no plan ({', '.join(planned)} have one); leave it out"
        )
    for sentence in unread(arguments, options.table):
        sys.stderr.write(f"note: {sentence}\n")
    if options.table != "continual" and options.tasks and len(set(options.tasks)) < len(options.tasks):
        raise InputError("--tasks: give each task once; only --table continual takes one that comes again")
    for name in options.tasks or ():
        known = get_task(name).name == name  # refused here, before a model is loaded
        if not known and options.table in OF_KNOWN_TASKS:
            raise InputError(
                f"--table {options.table} compares methods on known tasks, and {name} is a file of your own; what a "
                "run gains on it: --table starts, policies or labels, or python -m agent.run --task FILE"
            )

    from eval.tables_command import measure  # noqa: PLC0415  (torch; arguments come first)

    return measure(options, arguments.config, command, as_json=arguments.json)


def unread(arguments: argparse.Namespace, table: str) -> list[str]:
    """Return a sentence for each option that is given and that the table does not read.

    Args:
        arguments: the command line, understood.
        table: that is asked for.
    """
    named = {name for name, value in vars(arguments).items() if value is not None}
    named |= set(assigned(arguments.assignments))
    given = [name for name in READ_BY if name in named and table not in READ_BY[name]]
    reads = {name: "reads it" if len(READ_BY[name]) == 1 else "read it" for name in given}
    return [
        f"--{name.replace('_', '-')}: --table {table} does not read it ({', '.join(READ_BY[name])} {reads[name]})"
        for name in given
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    command = f"python -m eval.tables {shlex.join(sys.argv[1:] if argv is None else argv)}"
    return run_main(parser(), lambda arguments: _measure(arguments, command), argv)


if __name__ == "__main__":
    sys.exit(main())

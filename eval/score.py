"""``python -m eval.score --task NAME|FILE``: measure a model, with or without an adapter, on a task.

Nothing is adapted here; this is the measurement of the loop as a command of its own.
"""

import argparse
import random
import sys

from cao.command_line import run_main
from cao.errors import InputError
from cao.options import SET, add_common, add_options, command_parser
from cao.tasks import TASKS, get_task
from cao.tasks.base import Task
from cao.tasks.splits import part
from cao.types import Example
from eval.options import ScoreOptions
from eval.settings import settings_of

EPILOG = """exit status: 0 measured; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted; 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.score", __doc__, EPILOG)
    add_options(p, ScoreOptions)
    add_common(p, config=True, settable=SET)
    return p


def questions_of(options: ScoreOptions) -> tuple[Task, str, list[Example]]:
    """Return the task, the part's name and its questions in file order."""
    task = get_task(options.task, keys=options.map, grader=options.grader)
    if not task.labelled:
        raise InputError(f"{options.task}: no answers are known, so nothing can be measured")
    split = options.split or ("test" if options.task in TASKS else "all")
    if split != "all" and not task.has_train:
        sys.stderr.write(
            f"note: {task.name} is dealt out for the default sizes 32/96/200 or those that fit;"
            " a run with other sizes had other parts\n"
        )
    examples = task.load() if split == "all" else part(task, split)
    if not examples:
        raise InputError(f"{options.task}: no questions in the part {split}; use --split all")
    if options.limit and options.limit < len(examples):
        kept = sorted(random.Random(options.seed).sample(range(len(examples)), options.limit))
        examples = [examples[i] for i in kept]
    return task, split, examples


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        options = settings_of(ScoreOptions, arguments, "score")
        asked = questions_of(options)

        from eval.score_command import score  # noqa: PLC0415  (torch; a mistake in the questions is reported first)

        return score(options, *asked, as_json=arguments.json)

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

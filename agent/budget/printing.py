"""A run's plan on standard output: for people as a table, or as one JSON object."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.budget.plan import Plan, plan
from agent.config import RunConfig
from agent.record.wording import count
from cao.encodings import visible
from cao.machine.compute import Compute
from cao.tasks.base import Task
from cao.tasks.splits import Splits
from cao.types import AnswerProtocol


def _starts(content: Plan) -> str:
    """Say what the loop may start from."""
    if content["adapter"] == "none":
        return "the deployed model"
    if not content["max_attempts"]:
        return "the deployed model; without answers nothing is measured against it"
    if content["variant"] is None:
        return "the deployed model; a trained generator for its weights is not known of"
    made = "generated" if content["adapter"] == "generated" else "generated or the aligned"
    return f"the deployed model, the {made} adapter (generator “{content['variant']}”), whichever measures best"


def _memory(content: Plan) -> str:
    """Say what the models' weights take, each loaded once."""
    parts = [f"{what} {mb} MB" for what, mb in content["memory_mb"].items()]
    return f"weights of the {', the '.join(parts)}; {content['memory_available_mb']} MB are free"


def print_plan(
    config: RunConfig,
    compute: Compute,
    task: Task,
    splits: Splits,
    protocol: AnswerProtocol,
    told: Sequence[str] = (),
    lacks: Sequence[str] = (),
    *,
    as_json: bool,
) -> None:
    """Print the plan on standard output, as one JSON object or for people.

    Args:
        config: of the run.
        compute: what it computes with.
        task: its questions.
        splits: parts of them.
        protocol: how answers come about.
        told: said of a user's file.
        lacks: what keeps the run from starting.
        as_json: print an object.
    """
    content = plan(config, compute, task, splits, protocol)
    if as_json:
        sys.stdout.write(json.dumps({**content, "lacks": list(lacks)}) + "\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(_table(config, compute, content, told))
    for line in lacks:
        console.print(escape(f"It cannot start yet: {line}"))
    console.print("Nothing was computed." if lacks else "Nothing was computed. Run the same command without --dry-run.")


def _table(config: RunConfig, compute: Compute, content: Plan, told: Sequence[str]) -> Table:
    title = escape(visible(f"plan: {content['task']} on {content['model']}"))
    table = Table(title=title, title_justify="left", show_header=False)
    split = content["splits"]
    table.add_row("data", escape(visible(content["source"])))
    for line in told:
        table.add_row("", escape(visible(line)))
    table.add_row("questions", f"{split['support']} support, {split['reward']} reward, {split['test']} test")
    if config.minutes is not None:
        table.add_row(
            "time budget",
            f"{count(config.minutes, 'minute')}; the run times a few prompts and may fit closer",
        )
    table.add_row("profile", escape(visible(content["profile"])))
    table.add_row("memory", _memory(content))
    table.add_row("protocol", content["protocol"])
    table.add_row("start", _starts(content))
    if config.reference:
        then = "the run ends without drift" if config.when_no_drift == "stop" else "goes on without drift too"
        table.add_row("deployed for", f"{', '.join(config.reference)}; {then}")
    table.add_row("policy, describer", f"{content['policy']}, {content['describer']}")
    table.add_row("computed in", f"{compute.dtype} by {count(compute.threads, 'thread')} on {compute.processor}")
    table.add_row("measured here", compute.reason)
    for name, (low, high) in content["estimated_seconds"].items():
        table.add_row(name, f"about {low:.0f} s" if high - low < 1 else f"about {low:.0f} to {high:.0f} s")
    low, high = content["estimated_total_seconds"]
    most = content["max_attempts"]
    attempts = f"1 to {most} attempts" if most > 1 else count(most, "attempt")
    table.add_row("in all", f"{low} s here" if low == high else f"{low} to {high} s here, {attempts}")
    dollars = content["dollars_at_most"]
    bound = "the model's price is not known" if dollars is None else f"≤ ${dollars:.2f}"
    table.add_row("paid requests", f"{content['paid_requests_at_most']} at most, what is sent again included ({bound})")
    sent = [f"to {each['to']} for {each['why']}: {each['what']}" for each in content["leaves_this_machine"]]
    for i, line in enumerate(sent or ["nothing"]):
        table.add_row("" if i else "leaves this machine", escape(visible(line)))
    return table

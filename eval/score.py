"""``python -m eval.score --task NAME|FILE.jsonl``: measure a model, with or without an adapter, on a task.

Nothing is adapted here; this is the measurement of the loop as a command of its own.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cao.command_line import run_main
from cao.configuration import Machine, first_error
from cao.errors import InputError, NotApplicableError
from cao.options import SET, Option, add_common, add_options, command_parser
from cao.tasks.base import Task
from cao.types import AdaptedModel, AnswerProtocol, Example, Item, Record, Reward

EPILOG = """exit status: 0 measured; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted; 1 a defect."""
SECONDS_BETWEEN_LINES = 10.0


class ScoreOptions(Machine):
    """What the command takes."""

    task: Annotated[str, Field(description="a known task, or your own questions"), Option("NAME|FILE.jsonl")]
    adapter: Annotated[Path | None, Field(description="a LoRA adapter in PEFT format"), Option("DIR")] = None
    protocol: Annotated[
        AnswerProtocol | None,
        Field(description="how answers are judged"),
        Option(default="likelihood where there are choices"),
    ] = None
    split: Annotated[
        Literal["reward", "test", "all"] | None,
        Field(description="which part"),
        Option(default="test; all for your own file"),
    ] = None
    limit: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="a seeded sample of N questions"),
        Option("N", default="all"),
    ] = None
    seed: Annotated[int, Field(description="of that sample"), Option("S")] = 0
    server: Annotated[
        str | None,
        Field(description="generate: let an OpenAI-compatible server write, http://127.0.0.1:8000/v1 say"),
        Option("URL"),
    ] = None
    server_model: Annotated[
        str | None, Field(description="the name that the server knows the model by"), Option("NAME", default="--model")
    ] = None
    server_batch: Annotated[int, Field(ge=1, description="prompts of one request"), Option("N")] = 8
    server_concurrency: Annotated[int, Field(ge=1, description="requests at a time"), Option("N")] = 4


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.score", __doc__, EPILOG)
    add_options(p, ScoreOptions)
    add_common(p, config=True, settable=SET)
    return p


class Measurement(Record):
    """What was measured.

    Attributes:
        task: its name.
        split: the part of it.
        model: a model profile.
        adapter: hash of the adapter, None without one.
        protocol: how the model was asked.
    """

    task: str
    split: str
    model: str
    adapter: str | None
    protocol: AnswerProtocol


class _Lines:
    """Progress on standard error, a line every ten seconds; what ends at once, such as a warning, always."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        if label.startswith("prompts") or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            sys.stderr.write(f"{label}: {done} of {total}\n")
            sys.stderr.flush()


def questions_of(options: ScoreOptions) -> tuple[Task, str, list[Example]]:
    """Return the task, the part's name and its questions in file order."""
    from cao.tasks import TASKS, get_task  # noqa: PLC0415  (reads data sets)
    from cao.tasks.splits import part  # noqa: PLC0415

    task = get_task(options.task)
    split = options.split or ("test" if options.task in TASKS else "all")
    if split != "all" and not task.has_train:
        sys.stderr.write(
            f"note: {task.name} is dealt out for the default sizes 32/96/200; a run with other sizes had other parts\n"
        )
    examples = task.load() if split == "all" else part(task, split)
    if not examples:
        raise InputError(f"{options.task}: no questions in the part {split}; use --split all")
    if options.limit and options.limit < len(examples):
        kept = sorted(random.Random(options.seed).sample(range(len(examples)), options.limit))
        examples = [examples[i] for i in kept]
    return task, split, examples


def _check_adapter(folder: Path | None) -> None:
    """Name a damaged adapter before the model is loaded."""
    from cao.model.adapters import NotPlainError, load_adapter  # noqa: PLC0415  (imports torch)

    if folder is not None:
        with contextlib.suppress(NotPlainError):
            load_adapter(folder)


def _score(options: ScoreOptions, *, as_json: bool) -> int:
    from cao.model.adapters import save_adapter  # noqa: PLC0415
    from cao.model.loading import load_model  # noqa: PLC0415
    from cao.model.start_adapter import attach_adapter  # noqa: PLC0415
    from tools.evaluate import evaluate  # noqa: PLC0415  (imports torch; arguments come first)
    from tools.evaluate.statistics import summarise  # noqa: PLC0415

    task, split, examples = questions_of(options)
    if options.server:
        return _score_server(options, task, split, examples, as_json=as_json)
    _check_adapter(options.adapter)
    protocol: AnswerProtocol = options.protocol or ("likelihood" if all(e.choices for e in examples) else "generate")
    lm = load_model(options)
    carried = attach_adapter(lm, options.adapter) if options.adapter else None
    try:
        with tempfile.TemporaryDirectory() as store:
            adapter = save_adapter(Path(store), carried, lm.source) if carried else None
            items = evaluate(task, examples, AdaptedModel(members=(adapter,)), protocol, lm=lm, progress=_Lines())
    except NotApplicableError as error:  # to the loop a rejection, here bad input
        raise InputError(str(error)) from None
    about = Measurement(
        task=task.name,
        split=split,
        model=options.model,
        adapter=adapter.sha256 if adapter else None,
        protocol=protocol,
    )
    reward = summarise(items)
    if as_json:
        sys.stdout.write(json.dumps(about.model_dump() | _figures(reward, items), ensure_ascii=False) + "\n")
    else:
        _table(about, reward)
    return 0


def _score_server(options: ScoreOptions, task: Task, split: str, examples: list[Example], *, as_json: bool) -> int:
    """Measure what a server writes; the gold answers' likelihoods are not known there and are null."""
    from policies.client.completions import CompletionClient, ServerSettings  # noqa: PLC0415  (imports the client)
    from tools.evaluate.statistics import wilson  # noqa: PLC0415  (imports scipy)
    from tools.evaluate.written import grade_texts  # noqa: PLC0415

    if options.protocol == "likelihood":
        raise InputError("--server writes answers and ranks none; use --protocol generate")
    if options.adapter:
        refusal = f"the adapter {options.adapter} cannot be put on a model that {options.server} serves"
        raise InputError(f"{refusal}; let the server serve it and give its name there: --server-model NAME")
    try:
        settings = ServerSettings(
            url=options.server,
            model=options.server_model or options.model,
            batch=options.server_batch,
            concurrency=options.server_concurrency,
        )
    except ValidationError as error:
        raise InputError(f"--server: {first_error(error)[1]}; write it like http://127.0.0.1:8000/v1") from None
    client, prompts = CompletionClient(settings, offline=options.offline), [task.ask(example) for example in examples]
    texts = client.write(prompts, max_new_tokens=task.max_new_tokens, stop=task.stop, progress=_Lines())
    items = grade_texts(task, examples, texts)
    right, n = sum(item.correct for item in items), len(items)
    low, high = wilson(right, n)
    record = {
        **{"task": task.name, "split": split, "model": settings.model, "server": settings.url},
        **{"adapter": None, "protocol": "generate", "accuracy": right / n, "ci95": [low, high], "n": n},
        **dict.fromkeys(("gold_nll_per_char", "loss", "raw_loss", "chance", "uniform_loss", "at_chance", "margin")),
        "items": [{**item.model_dump(include={"id", "choice", "gold", "correct"}), "scores": []} for item in items],
    }
    if as_json:
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    else:
        accuracy = f"accuracy {100 * right / n:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}) on {n} questions"
        sys.stdout.write(f"{task.name} ({split}) · {settings.model} at {settings.url}: {accuracy}\n")
    return 0


def _figures(reward: Reward, items: list[Item]) -> dict[str, object]:
    return {
        "accuracy": reward.score,
        "ci95": list(reward.ci95),
        "n": reward.n,
        "gold_nll_per_char": reward.gold_nll_per_char,
        "loss": reward.loss,
        **reward.model_dump(include={"raw_loss", "chance", "uniform_loss", "at_chance"}),
        "margin": reward.margin,
        "items": [item.model_dump(include={"id", "scores", "choice", "gold", "correct"}) for item in items],
    }


def _table(about: Measurement, reward: Reward) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_header=False)
    for key, value in about.model_dump().items():
        table.add_row(key, "none" if value is None else str(value))
    low, high = reward.ci95
    by_guessing = f"; guessing {100 * reward.chance:.1f} %" if reward.chance else ""
    table.add_row("accuracy", f"{100 * reward.score:.1f} %  (95 %: {100 * low:.1f} to {100 * high:.1f}{by_guessing})")
    table.add_row("questions", str(reward.n))
    table.add_row("gold answer", f"{reward.gold_nll_per_char:.4f} nats per character")
    if about.protocol == "likelihood":
        at_chance = "; at chance" if reward.at_chance else ""
        found = f"{reward.loss:.4f} nats at its own temperature (guessing {reward.uniform_loss:.4f}{at_chance})"
        table.add_row("choice log-loss", found)
        table.add_row("gold margin", f"{reward.margin:+.4f} nats per character")
    Console(highlight=False).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        from agent.config import settings_of  # noqa: PLC0415  (after the check that no other package hides ours)

        return _score(settings_of(ScoreOptions, arguments, "score"), as_json=arguments.json)

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())

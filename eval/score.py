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
from typing import TYPE_CHECKING, Literal

from cao.command_line import compute_options, model_path, positive, quiet_libraries, run_command
from cao.errors import InputError, NotApplicableError
from cao.model.profiles import MODELS
from cao.tasks.base import Task
from cao.types import AdaptedModel, AnswerProtocol, Example, Item, Record, Reward

if TYPE_CHECKING:
    from cao.model.language_model import LanguageModel

EPILOG = """exit status: 0 measured; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted; 1 a defect."""
SECONDS_BETWEEN_LINES = 10.0


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    summary = (__doc__ or "").split("\n")[0]
    p = argparse.ArgumentParser(prog="python -m eval.score", description=summary, epilog=EPILOG)
    a = p.add_argument
    a("--task", metavar="NAME|FILE.jsonl", required=True, help="a known task, or your own questions")
    a("--model", metavar="NAME", default="smollm2-135m", help="model profile (default %(default)s)")
    a("--model-path", metavar="DIR", help="a folder that takes the place of the profile's source")
    a("--set", metavar="model_path=DIR", action="append", default=[], dest="assignments", help="the same")
    a("--adapter", metavar="DIR", type=Path, help="a LoRA adapter in PEFT format")
    a("--protocol", choices=["likelihood", "generate"], help="default: likelihood where there are choices")
    a("--split", choices=["reward", "test", "all"], help="which part (default test; all for your own file)")
    a("--limit", metavar="N", type=positive, help="a seeded sample of N questions (default: every one)")
    a("--seed", metavar="S", type=int, default=0, help="of that sample (default 0)")
    compute_options(p)
    a("--server", metavar="URL", help="generate: let an OpenAI-compatible server write, http://127.0.0.1:8000/v1 say")
    a("--server-model", metavar="NAME", help="the name that the server knows the model by (default: --model)")
    a("--server-batch", metavar="N", type=positive, default=8, help="prompts of one request (default %(default)s)")
    a("--server-concurrency", metavar="N", type=positive, default=4, help="requests at a time (default %(default)s)")
    a("--json", action="store_true", help="print one JSON object on standard output and nothing else there")
    a("--offline", action="store_true", help="never touch the network")
    a("--debug", action="store_true", help="show tracebacks")
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


def _questions(arguments: argparse.Namespace) -> tuple[Task, str, list[Example]]:
    """Return the task, the part's name and its questions in file order."""
    from cao.tasks import TASKS, get_task  # noqa: PLC0415  (reads data sets)
    from cao.tasks.splits import part  # noqa: PLC0415

    task = get_task(arguments.task)
    split: Literal["reward", "test", "all"] = arguments.split or ("test" if arguments.task in TASKS else "all")
    if split != "all" and not task.has_train:
        sys.stderr.write(
            f"note: {task.name} is dealt out for the default sizes 32/96/200; a run with other sizes had other parts\n"
        )
    examples = task.load() if split == "all" else part(task, split)
    if not examples:
        raise InputError(f"{arguments.task}: no questions in the part {split}; use --split all")
    if arguments.limit and arguments.limit < len(examples):
        kept = sorted(random.Random(arguments.seed).sample(range(len(examples)), arguments.limit))
        examples = [examples[i] for i in kept]
    return task, split, examples


def _check_adapter(folder: Path | None) -> None:
    """Name a damaged adapter before the model is loaded."""
    from cao.model.adapters import NotPlainError, load_adapter  # noqa: PLC0415  (imports torch)

    if folder is not None:
        with contextlib.suppress(NotPlainError):
            load_adapter(folder)


def _load(arguments: argparse.Namespace) -> "LanguageModel":
    from cao.model.loading import load_language_model  # noqa: PLC0415  (imports torch)

    if arguments.model not in MODELS:
        raise InputError(f"unknown model {arguments.model!r}; known: {', '.join(MODELS)}")
    return load_language_model(
        MODELS[arguments.model],
        path=model_path(arguments.assignments) or arguments.model_path,
        device=arguments.device,
        dtype=arguments.dtype,
        offline=arguments.offline,
    )


def _score(arguments: argparse.Namespace) -> int:
    from cao.model.adapters import save_adapter  # noqa: PLC0415
    from cao.model.start_adapter import attach_adapter  # noqa: PLC0415
    from tools.evaluate import evaluate  # noqa: PLC0415  (imports torch; arguments come first)
    from tools.evaluate.statistics import summarise  # noqa: PLC0415

    task, split, examples = _questions(arguments)
    if arguments.server:
        return _score_server(arguments, task, split, examples)
    _check_adapter(arguments.adapter)
    protocol: AnswerProtocol = arguments.protocol or ("likelihood" if all(e.choices for e in examples) else "generate")
    lm = _load(arguments)
    carried = attach_adapter(lm, arguments.adapter) if arguments.adapter else None
    try:
        with tempfile.TemporaryDirectory() as store:
            adapter = save_adapter(Path(store), carried, lm.source) if carried else None
            items = evaluate(task, examples, AdaptedModel(members=(adapter,)), protocol, lm=lm, progress=_Lines())
    except NotApplicableError as error:  # to the loop a rejection, here bad input
        raise InputError(str(error)) from None
    about = Measurement(
        task=task.name,
        split=split,
        model=arguments.model,
        adapter=adapter.sha256 if adapter else None,
        protocol=protocol,
    )
    reward = summarise(items)
    if arguments.json:
        sys.stdout.write(json.dumps(about.model_dump() | _figures(reward, items), ensure_ascii=False) + "\n")
    else:
        _table(about, reward)
    return 0


def _score_server(arguments: argparse.Namespace, task: Task, split: str, examples: list[Example]) -> int:
    """Measure what a server writes; the gold answers' likelihoods are not known there and are null."""
    from pydantic import ValidationError  # noqa: PLC0415

    from policies.client.completions import CompletionClient, ServerSettings  # noqa: PLC0415  (imports the client)
    from tools.evaluate.statistics import wilson  # noqa: PLC0415  (imports scipy)
    from tools.evaluate.written import grade_texts  # noqa: PLC0415

    if arguments.protocol == "likelihood":
        raise InputError("--server writes answers and ranks none; use --protocol generate")
    if arguments.adapter:
        refusal = f"the adapter {arguments.adapter} cannot be put on a model that {arguments.server} serves"
        raise InputError(f"{refusal}; let the server serve it and give its name there: --server-model NAME")
    try:
        settings = ServerSettings(
            url=arguments.server,
            model=arguments.server_model or arguments.model,
            batch=arguments.server_batch,
            concurrency=arguments.server_concurrency,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"--server: {first['msg']}; write it like http://127.0.0.1:8000/v1") from None
    client, prompts = CompletionClient(settings, offline=arguments.offline), [task.ask(example) for example in examples]
    texts = client.write(prompts, max_new_tokens=task.max_new_tokens, stop=task.stop, progress=_Lines())
    items = grade_texts(task, examples, texts)
    right, n = sum(item.correct for item in items), len(items)
    low, high = wilson(right, n)
    record = {
        **{"task": task.name, "split": split, "model": settings.model, "server": settings.url},
        **{"adapter": None, "protocol": "generate", "accuracy": right / n, "ci95": [low, high], "n": n},
        **dict.fromkeys(("gold_nll_per_char", "loss", "margin")),
        "items": [{**item.model_dump(include={"id", "choice", "gold", "correct"}), "scores": []} for item in items],
    }
    if arguments.json:
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
    table.add_row("accuracy", f"{100 * reward.score:.1f} %  (95 %: {100 * low:.1f} to {100 * high:.1f})")
    table.add_row("questions", str(reward.n))
    table.add_row("gold answer", f"{reward.gold_nll_per_char:.4f} nats per character")
    if about.protocol == "likelihood":
        table.add_row("choice log-loss", f"{reward.loss:.4f} nats")
        table.add_row("gold margin", f"{reward.margin:+.4f} nats per character")
    Console(highlight=False).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)
    quiet_libraries(offline=arguments.offline)
    return run_command(lambda: _score(arguments), debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())

"""The command ``eval.score`` behind its options: measure a model, with or without an adapter, or a server."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from agent.record.terminal import make_view
from cao.errors import InputError, NotApplicableError
from cao.model.adapters import NotPlainError, load_adapter, save_adapter
from cao.model.loading import load_model
from cao.model.start_adapter import attach_adapter
from cao.progress import Progress
from cao.tasks.base import Task
from cao.types import AdaptedModel, AnswerProtocol, Example, Item, Record, Reward
from eval.options import ScoreOptions
from eval.served import answers_of_server
from tools.evaluate import evaluate
from tools.evaluate.statistics import chance_of, summarise, wilson
from tools.evaluate.written import Written


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


@contextmanager
def _progress() -> Iterator[Progress]:
    """Yield what shows progress; of prompts that were cut there is a line that stays."""
    with closing(make_view()) as view:

        def show(label: str, done: int, total: int) -> None:
            if label.startswith("prompts"):
                view.say(f"{label}: {done} of {total}")
            else:
                view.progress(label, done, total)

        yield show


def _check_adapter(folder: Path | None) -> None:
    """Name a damaged adapter before the model is loaded."""
    if folder is not None:
        with suppress(NotPlainError):
            load_adapter(folder)


def score(options: ScoreOptions, task: Task, split: str, examples: list[Example], *, as_json: bool) -> int:
    """Measure the model, or a server, on a task's questions and print what came of it.

    Args:
        options: what the command takes.
        task: whose questions they are.
        split: the part's name.
        examples: the questions.
        as_json: print an object.

    Raises:
        InputError: the adapter or the server's address cannot be used, or the protocol does not fit the questions.
        UnavailableError: the model or the server is not at hand.
    """
    if options.server:
        return _score_server(options, task, split, examples, as_json=as_json)
    _check_adapter(options.adapter)
    protocol: AnswerProtocol = options.protocol or ("likelihood" if all(e.choices for e in examples) else "generate")
    lm = load_model(options)
    carried = attach_adapter(lm, options.adapter) if options.adapter else None
    try:
        with tempfile.TemporaryDirectory() as store, _progress() as progress:
            adapter = save_adapter(Path(store), carried, lm.source) if carried else None
            items = evaluate(task, examples, AdaptedModel(members=(adapter,)), protocol, lm=lm, progress=progress)
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
        sys.stdout.write(json.dumps(about.model_dump() | _figures(reward, items)) + "\n")
    else:
        _table(about, reward)
    return 0


def _score_server(options: ScoreOptions, task: Task, split: str, examples: list[Example], *, as_json: bool) -> int:
    """Measure a server; of written answers the gold answers' likelihoods are not known there, and are null."""
    with _progress() as progress:
        served = answers_of_server(options, task, examples, progress)
    about = {"task": task.name, "split": split} | served.model_dump(exclude={"items"})
    ranked = [item for item in served.items if isinstance(item, Item)]
    written = [item for item in served.items if isinstance(item, Written)]
    if as_json:
        figures = _figures(summarise(ranked), ranked) if ranked else _unranked(written)
        sys.stdout.write(json.dumps(about | figures) + "\n")
        return 0
    accuracy = Accuracy.of_ranked(summarise(ranked)) if ranked else Accuracy.of_written(written)
    name = f"{served.adapter} on {served.model}" if served.adapter else served.model
    asked = f"{served.protocol} of {served.answer_style}s" if served.answer_style else served.protocol
    shown = f"accuracy {accuracy.shown()} on {len(served.items)} questions"
    sys.stdout.write(f"{task.name} ({split}) · {name} at {served.server}: {shown}, by {asked}\n")
    return 0


class Accuracy(NamedTuple):
    """A share of right answers with its 95 % interval, and what guessing reaches, 0 where nobody can guess."""

    share: float
    ci95: tuple[float, float]
    chance: float
    at_chance: bool

    @classmethod
    def of_ranked(cls, reward: Reward) -> "Accuracy":
        """Return that of questions whose choices were ranked."""
        low, high = reward.ci95
        return cls(reward.score, reward.ci95, reward.chance, reward.at_chance and low <= reward.chance <= high)

    @classmethod
    def of_written(cls, items: Sequence[Written]) -> "Accuracy":
        """Return that of texts."""
        right, chance = sum(item.correct for item in items), chance_of(item.guessing for item in items)
        ci95 = wilson(right, len(items))
        return cls(right / len(items), ci95, chance, at_chance=chance > 0 and ci95[0] <= chance)

    def shown(self) -> str:
        """Return it in per cent."""
        low, high = self.ci95
        guessing = f"; guessing {100 * self.chance:.1f} %" if self.chance else ""
        verdict = "; at chance" if self.at_chance else ""
        return f"{100 * self.share:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}{guessing}{verdict})"


def _unranked(items: Sequence[Written]) -> dict[str, object]:
    accuracy = Accuracy.of_written(items)
    unknown = ("gold_nll_per_char", "loss", "raw_loss", "uniform_loss", "margin")
    return {
        "accuracy": accuracy.share,
        "ci95": list(accuracy.ci95),
        "n": len(items),
        "chance": accuracy.chance,
        "at_chance": accuracy.at_chance,
        **dict.fromkeys(unknown),
        "items": [{**item.model_dump(include={"id", "choice", "gold", "correct"}), "scores": []} for item in items],
    }


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
    table = Table(show_header=False)
    for key, value in about.model_dump().items():
        table.add_row(key, "none" if value is None else str(value))
    table.add_row("accuracy", Accuracy.of_ranked(reward).shown())
    table.add_row("questions", str(reward.n))
    table.add_row("gold answer", f"{reward.gold_nll_per_char:.4f} nats per character")
    if about.protocol == "likelihood":
        at_chance = "; at chance" if reward.at_chance else ""
        loss = f"{reward.loss:.4f} nats at its own temperature (guessing {reward.uniform_loss:.4f}{at_chance})"
        table.add_row("choice log-loss", loss)
        table.add_row("gold margin", f"{reward.margin:+.4f} nats per character")
    Console(highlight=False).print(table)

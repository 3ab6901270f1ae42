"""Evaluate: measure an adapted model on questions, by ranking the choices or by generating and parsing.

Source: CAO-LLM §2.4 (Operating), G.5.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from cao.adapters import load_adapter
from cao.encoder import Encoder
from cao.errors import InputError
from cao.files import write_atomic
from cao.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task, normalise
from cao.types import AdaptedModel, AdapterRef, Branch, Example, Item, Protocol, Query
from tools.apply_strategy.tts import combine, route
from tools.evaluate.generation import Generated, generate
from tools.evaluate.likelihood import BranchScore, QueryScore, score_queries
from tools.evaluate.states import KeptStates
from tools.evaluate.written import chosen

__all__ = ["KeptStates", "evaluate", "load_items", "save_items"]

Assignment = list[list[int]]
"""For each question, the members that answer it."""


def evaluate(
    task: Task,
    examples: Sequence[Example],
    adapted: AdaptedModel,
    protocol: Protocol,
    *,
    lm: LanguageModel,
    encoder: Encoder | None = None,
    states: KeptStates | None = None,
    progress: Progress = silent,
) -> list[Item]:
    """Answer every question with the adapted model and grade the answers.

    Args:
        task: how questions are asked and graded.
        examples: Q questions.
        adapted: adapters, how they answer together, and SLOT's settings.
        protocol: ``likelihood`` ranks the choices, ``generate`` parses what the model writes.
        lm: the base model, undressed.
        encoder: needed where questions are routed to members.
        states: hidden states of earlier calls, and a place for those of this one.
        progress: told after each batch.

    Returns:
        Q items in the order of ``examples``; equal inputs give equal items.

    Raises:
        InputError: free-text questions under ``likelihood``, or an adapter that cannot be used.
        NotApplicableError: the adapted model's output is not finite.

    Source: CAO-LLM §2.4, G.5.
    """
    if protocol == "likelihood" and not all(example.choices for example in examples):
        raise InputError(f"{task.name} has questions without choices to rank; use the protocol generate")
    who = _assign(examples, adapted, encoder)
    run = _rank if protocol == "likelihood" else _write
    return run(task, examples, adapted, who, lm, states or KeptStates(0), progress)


def _assign(examples: Sequence[Example], adapted: AdaptedModel, encoder: Encoder | None) -> Assignment:
    """Return who answers what: the nearest member where there are centroids, else everybody everything."""
    if adapted.centroids is None:
        return [list(range(len(adapted.members)))] * len(examples)
    if encoder is None:
        raise ValueError("routing needs the encoder")
    (centroids,) = load_file(adapted.centroids).values()
    if len(centroids) != len(adapted.members):
        raise InputError(f"{adapted.centroids}: {len(centroids)} centroids for {len(adapted.members)} adapters")
    return [[member] for member in route(encoder.embed([example.prompt for example in examples]), centroids)]


def _duties(who: Assignment, member: int) -> list[int]:
    return [question for question, members in enumerate(who) if member in members]


@contextmanager
def _dressed(lm: LanguageModel, reference: AdapterRef | None) -> Iterator[None]:
    weights = None if reference is None else load_adapter(Path(reference.path), lm.sha256)
    with lm.adapted(weights):
        yield


def _rank(
    task: Task,
    examples: Sequence[Example],
    adapted: AdaptedModel,
    who: Assignment,
    lm: LanguageModel,
    states: KeptStates,
    progress: Progress,
) -> list[Item]:
    queries = [task.query(example, lm.profile.answer_style) for example in examples]
    answers: list[list[QueryScore]] = [[] for _ in examples]
    for member, reference in enumerate(adapted.members):
        mine = _duties(who, member)
        with _dressed(lm, reference):
            asked, read = [queries[q] for q in mine], states.reader(reference.sha256 if reference else None)
            scores = score_queries(lm, asked, latent=adapted.latent, read=read, progress=progress)
        for q, score in zip(mine, scores, strict=True):
            answers[q].append(score)
    _report_cut([answer for given in answers for answer in given], progress)
    return [_ranked(example, given, adapted.method) for example, given in zip(examples, answers, strict=True)]


def _ranked(example: Example, answers: Sequence[QueryScore], method: str | None) -> Item:
    """Grade one question from the scores of the members that answered it."""
    each = [[branch.per_char for branch in answer.branches] for answer in answers]
    scores = each[0] if len(each) == 1 else combine(each, str(method))
    gold, choice = example.answer, scores.index(max(scores))
    golds = [answer.branches[gold] for answer in answers]
    others = scores[:gold] + scores[gold + 1 :]
    return Item(
        id=example.id,
        scores=tuple(scores),
        choice=choice,
        gold=gold,
        correct=choice == gold,
        loss=-float(torch.tensor(scores, dtype=torch.double).log_softmax(0)[gold]),
        margin=scores[gold] - max(others) if others else 0.0,
        gold_nll=_mean_nll(golds),
        gold_chars=golds[0].chars,
    )


def _mean_nll(golds: Sequence[BranchScore]) -> float:
    return -math.fsum(gold.logprob for gold in golds) / len(golds)


def _write(
    task: Task,
    examples: Sequence[Example],
    adapted: AdaptedModel,
    who: Assignment,
    lm: LanguageModel,
    states: KeptStates,
    progress: Progress,
) -> list[Item]:
    prompts = [task.ask(example) for example in examples]
    golds = [
        Query(prefix=prompt, branches=(Branch(scored=f" {task.gold(example)}"),))
        for prompt, example in zip(prompts, examples, strict=True)
    ]
    texts: list[list[Generated]] = [[] for _ in examples]
    scores: list[list[QueryScore]] = [[] for _ in examples]
    for member, reference in enumerate(adapted.members):
        mine = _duties(who, member)
        with _dressed(lm, reference):
            written = generate(
                lm,
                [prompts[q] for q in mine],
                max_new_tokens=task.max_new_tokens,
                stop=task.stop,
                latent=adapted.latent,
                progress=progress,
            )
            asked, read = [golds[q] for q in mine], states.reader(reference.sha256 if reference else None)
            scored = score_queries(lm, asked, latent=adapted.latent, read=read, progress=progress)
        for q, text, score in zip(mine, written, scored, strict=True):
            texts[q].append(text)
            scores[q].append(score)
    _report_cut([text for given in texts for text in given], progress)
    return [
        _graded(task, example, _agree(task, example, texts[q], adapted.method), scores[q])
        for q, example in enumerate(examples)
    ]


def _agree(task: Task, example: Example, answers: Sequence[Generated], method: str | None) -> str:
    """Return the text that the members' answers amount to, the surest member's among equal answers.

    A member that wrote its answer with mean token probability p holds the others' answers together to be 1 − p
    times as likely as its own, so its confidence grows with p and it always votes for itself.
    """
    if len(answers) == 1:
        return answers[0].text
    keys = [_answer_key(task, example, answer.text) for answer in answers]
    distinct = list(dict.fromkeys(keys))
    beliefs = []
    for key, answer in zip(keys, answers, strict=True):
        rest = math.log(max(1e-9, 1 - answer.mean_prob) / max(1, len(distinct) - 1))
        beliefs.append([0.0 if candidate == key else rest for candidate in distinct])
    combined = combine(beliefs, str(method))
    winner = distinct[combined.index(max(combined))]
    supporters = [answer for key, answer in zip(keys, answers, strict=True) if key == winner]
    return max(supporters, key=lambda answer: answer.mean_prob).text


def _answer_key(task: Task, example: Example, text: str) -> str:
    """Return what two texts share if they give one answer: the choice, the last number, or all of it."""
    choice = chosen(task, example, text)
    if choice >= 0:
        return f"choice {choice}"
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
    return numbers[-1] if numbers else normalise(text)


def _graded(task: Task, example: Example, text: str, scores: Sequence[QueryScore]) -> Item:
    nll, chars = _mean_nll([score.branches[0] for score in scores]), scores[0].branches[0].chars
    return Item(
        id=example.id,
        choice=chosen(task, example, text),
        gold=example.answer,
        correct=task.grade(text, example),
        loss=nll / chars,
        gold_nll=nll,
        gold_chars=chars,
        text=text,
    )


def _report_cut(answers: Sequence[QueryScore | Generated], progress: Progress) -> None:
    cut = sum(answer.cut > 0 for answer in answers)
    if cut:
        progress("prompts longer than the model's context, beginning dropped", cut, len(answers))


def save_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as JSON lines in one step."""
    write_atomic(path, "".join(f"{item.model_dump_json()}\n" for item in items))


def load_items(path: Path) -> list[Item]:
    """Read what ``save_items`` wrote.

    Raises:
        InputError: the file is missing or a line is no item.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__})") from None
    items = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                items.append(Item.model_validate_json(line))
            except ValidationError as error:
                raise InputError(f"{path}:{number}: no item ({error.errors()[0]['msg']})") from None
    return items

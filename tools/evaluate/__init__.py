"""Evaluate: measure an adapted model on questions, by ranking the choices or by generating and parsing.

Source: CAO-LLM §2.4 (Operating), G.5.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from cao.configuration import first_error
from cao.errors import InputError
from cao.files import sha256_bytes, write_atomic
from cao.inference.generation import Generated, generate
from cao.inference.hidden_cache import HiddenCache, Reader
from cao.inference.scoring import QueryScore, score_queries
from cao.model.adapters import load_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task, answer_form
from cao.types import AdaptedModel, AdapterRef, AnswerProtocol, Branch, Example, Item, LatentSettings, Query
from tools.apply_strategy.latent import moving
from tools.apply_strategy.tts import combine, route
from tools.evaluate.written import chosen

__all__ = ["HiddenCache", "evaluate", "load_items", "save_items", "together"]

_SEAL = "sha256"

Assignment = list[list[int]]
"""For each question, the members that answer it."""


def evaluate(
    task: Task,
    examples: Sequence[Example],
    adapted: AdaptedModel,
    protocol: AnswerProtocol,
    *,
    lm: LanguageModel,
    encoder: Encoder | None = None,
    states: HiddenCache | None = None,
    progress: Progress = silent,
) -> list[Item]:
    """Answer every question with the adapted model and grade the answers.

    Args:
        task: how questions are asked and graded.
        examples: Q questions.
        adapted: adapters, how they answer together, and SLOT's settings.
        protocol: ``likelihood`` ranks the choices, ``generate`` parses what the model writes.
        lm: the base model, without an adapter.
        encoder: needed where questions are routed to members.
        states: hidden states of earlier calls, and a place for those of this one.
        progress: called after each batch.

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
    kept = states or HiddenCache(0)
    answers: list[list[Item]] = [[] for _ in examples]
    cut = 0
    for member, reference in enumerate(adapted.members):
        mine = [question for question, members in enumerate(who) if member in members]
        read = kept.reader(reference.sha256 if reference else None)
        with _with_adapter(lm, reference):
            items, shortened = run(task, [examples[q] for q in mine], lm, adapted.latent, read, progress)
        cut += shortened
        for q, item in zip(mine, items, strict=True):
            answers[q].append(item)
    if cut:
        label = "prompts longer than the model's context, beginning dropped"
        progress(label, cut, sum(len(given) for given in answers))
    return [together(e, given, adapted.method) for e, given in zip(examples, answers, strict=True)]


def together(example: Example, answers: Sequence[Item], method: str | None) -> Item:
    """Return what several members answer together, from what each answers alone.

    Args:
        example: the question.
        answers: a member's item each; a single one is the answer.
        method: how they are combined, one of ``tts.COMBINING``.

    Source: CAO-LLM §2.4, G.3.
    """
    if len(answers) == 1:
        return answers[0]
    nll = math.fsum(answer.gold_nll for answer in answers) / len(answers)
    if not answers[0].scores:
        surest = _agree(answers, str(method))
        return surest.model_copy(update={"loss": nll / surest.gold_chars, "gold_nll": nll})
    return _ranked(example, combine([list(a.scores) for a in answers], str(method)), nll, answers[0].gold_chars)


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


@contextmanager
def _with_adapter(lm: LanguageModel, reference: AdapterRef | None) -> Iterator[None]:
    weights = None if reference is None else load_adapter(Path(reference.path), lm.sha256)
    with lm.adapted(weights):
        yield


def _rank(
    task: Task,
    examples: Sequence[Example],
    lm: LanguageModel,
    latent: LatentSettings | None,
    read: Reader,
    progress: Progress,
) -> tuple[list[Item], int]:
    """Return one model's items by ranking the choices, and how many prompts were cut."""
    queries = [task.query(example, lm.profile.answer_style) for example in examples]
    scored = score_queries(lm, queries, move=moving(latent), read=read, progress=progress)
    items = []
    for example, score in zip(examples, scored, strict=True):
        gold = score.branches[example.answer]
        items.append(_ranked(example, [branch.per_char for branch in score.branches], -gold.logprob, gold.chars))
    return items, sum(score.cut > 0 for score in scored)


def _ranked(example: Example, scores: list[float], gold_nll: float, gold_chars: int) -> Item:
    """Grade one question from the scores of its choices."""
    gold, choice = example.answer, scores.index(max(scores))
    others = scores[:gold] + scores[gold + 1 :]
    return Item(
        id=example.id,
        scores=tuple(scores),
        choice=choice,
        gold=gold,
        correct=choice == gold,
        loss=-float(torch.tensor(scores, dtype=torch.double).log_softmax(0)[gold]),
        margin=scores[gold] - max(others) if others else 0.0,
        gold_nll=gold_nll,
        gold_chars=gold_chars,
    )


def _write(
    task: Task,
    examples: Sequence[Example],
    lm: LanguageModel,
    latent: LatentSettings | None,
    read: Reader,
    progress: Progress,
) -> tuple[list[Item], int]:
    """Return one model's items by parsing what it writes, and how many prompts were cut."""
    prompts = [task.ask(example) for example in examples]
    golds = [
        Query(prefix=prompt, branches=(Branch(scored=f" {task.gold(example)}"),))
        for prompt, example in zip(prompts, examples, strict=True)
    ]
    written = generate(
        lm, prompts, max_new_tokens=task.max_new_tokens, stop=task.stop, move=moving(latent), progress=progress
    )
    scored = score_queries(lm, golds, move=moving(latent), read=read, progress=progress)
    items = [graded(task, *each) for each in zip(examples, written, scored, strict=True)]
    return items, sum(answer.cut > 0 for answer in written)


def graded(task: Task, example: Example, answer: Generated, score: QueryScore) -> Item:
    """Return one question's outcome: the text as its task grades it, and the gold answer's loss per character."""
    gold = score.branches[0]
    return Item(
        id=example.id,
        choice=chosen(task, example, answer.text),
        gold=example.answer,
        correct=task.grade(answer.text, example),
        loss=-gold.logprob / gold.chars,
        gold_nll=-gold.logprob,
        gold_chars=gold.chars,
        text=answer.text,
        confidence=answer.mean_prob,
    )


def _agree(answers: Sequence[Item], method: str) -> Item:
    """Return the answer that the members' texts amount to, the surest member's among equal answers.

    A member that wrote its answer with mean token probability p holds the others' answers together to be 1 − p
    times as likely as its own, so its confidence grows with p and it always votes for itself.
    """
    keys = [_answer_key(answer) for answer in answers]
    distinct = list(dict.fromkeys(keys))
    beliefs = []
    for key, answer in zip(keys, answers, strict=True):
        rest = math.log(max(1e-9, 1 - answer.confidence) / max(1, len(distinct) - 1))
        beliefs.append([0.0 if candidate == key else rest for candidate in distinct])
    combined = combine(beliefs, method)
    winner = distinct[combined.index(max(combined))]
    supporters = [answer for key, answer in zip(keys, answers, strict=True) if key == winner]
    return max(supporters, key=lambda answer: answer.confidence)


def _answer_key(answer: Item) -> str:
    """Return what two texts share if they give one answer: the choice, the last number, or all of it."""
    if answer.choice >= 0:
        return f"choice {answer.choice}"
    numbers = re.findall(r"-?\d+(?:\.\d+)?", answer.text.replace(",", ""))
    return numbers[-1] if numbers else answer_form(answer.text)


def save_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as JSON lines in one step, each with its own hash."""
    write_atomic(path, "".join(f"{_sealed(item)}\n" for item in items))


def _sealed(item: Item) -> str:
    """Return an item's line: it ends with the hash of all the rest."""
    line = item.model_dump_json()
    return f'{line[:-1]},"{_SEAL}":"{sha256_bytes(line.encode())}"}}'


def _opened(line: str) -> Item:
    """Return a line's item; a line of an older version has no hash.

    Raises:
        ValueError: it is no item, or not the one that was written.
    """
    value = json.loads(line)
    seal = value.pop(_SEAL, None) if isinstance(value, dict) else None
    item = Item.model_validate_json(json.dumps(value))
    if seal is not None and sha256_bytes(item.model_dump_json().encode()) != seal:
        raise ValueError("its content does not match its hash")
    return item


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
                items.append(_opened(line))
            except (ValueError, RecursionError) as error:
                why = first_error(error)[1] if isinstance(error, ValidationError) else str(error)
                raise InputError(f"{path}:{number}: no item ({why})") from None
    return items

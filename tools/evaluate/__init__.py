"""Evaluate: measure an adapted model on questions, by ranking the choices or by generating and parsing.

Source: CAO-LLM §2.4 (Operating), G.5.
"""

import math
import re
from collections.abc import Sequence

from safetensors.torch import load_file

from cao.errors import InputError
from cao.inference.generation import Generated, generate
from cao.inference.hidden_cache import HiddenCache, Reader
from cao.inference.scoring import QueryScore, score_queries
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task, answer_form, encoder_text
from cao.types import (
    AdaptedModel,
    AnswerProtocol,
    AnswerRule,
    AnswerStyle,
    Branch,
    ChoiceLikelihood,
    Example,
    Item,
    LatentSettings,
    Query,
)
from tools.apply_strategy.latent import moving
from tools.apply_strategy.tts import combine, route
from tools.evaluate.answer_rule import Prior, ranked, under_rule
from tools.evaluate.items import load_items, save_items
from tools.evaluate.priors import batch_prior, choice_prior, scored_texts, with_adapter
from tools.evaluate.written import chosen

__all__ = ["HiddenCache", "answer_by", "evaluate", "load_items", "prior_of", "ranking", "save_items", "together"]

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
    support: Sequence[Example] = (),
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
        support: prompts of the task, needed for the prior ``batch``; their answers are not read.
        states: hidden states of earlier calls, and a place for those of this one.
        progress: called after each batch.

    Returns:
        Q items in the order of ``examples``; equal inputs give equal items.

    Raises:
        InputError: free-text questions under ``likelihood``, or an adapter that cannot be used.
        NotApplicableError: the adapted model's output is not finite, or its answer rule has nothing to act on.

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
        asked = [examples[q] for q in mine]
        with with_adapter(lm, reference):
            items, shortened = run(task, asked, lm, adapted.latent, read, progress)
        if adapted.answer_rule != AnswerRule():
            prior = prior_of(adapted, member, task, asked, support, lm=lm, states=kept)
            items = answer_by(adapted.answer_rule, task, asked, items, prior, lm.profile.answer_style)
        if adapted.centroids is not None:
            items = [item.model_copy(update={"member": member}) for item in items]
        cut += shortened
        for q, item in zip(mine, items, strict=True):
            answers[q].append(item)
    if cut:
        label = "prompts longer than the model's context, beginning dropped"
        progress(label, cut, sum(len(given) for given in answers))
    return [together(e, given, adapted.method) for e, given in zip(examples, answers, strict=True)]


def prior_of(
    adapted: AdaptedModel,
    member: int,
    task: Task,
    examples: Sequence[Example],
    support: Sequence[Example],
    *,
    lm: LanguageModel,
    states: HiddenCache,
    progress: Progress = silent,
    neutral: int | None = None,
) -> Prior:
    """Return the prior that an adapted model's answer rule takes off, as one of its members has it.

    A choice's prior is read without Latent's vectors, which are fitted to questions.

    Args:
        adapted: what answers.
        member: which of its adapters.
        task: how questions are asked.
        examples: questions that are to be answered.
        support: unlabelled prompts with their choices.
        lm: the base model, without an adapter.
        states: hidden states of earlier calls.
        progress: told about long work.
        neutral: behind how many neutral questions a choice is read; None decides by ``examples``.

    Raises:
        NotApplicableError: there is no such prior for this task.
    """
    kind, reference = adapted.answer_rule.prior, adapted.members[member]
    if kind == "none":
        return {}
    with with_adapter(lm, reference):
        if kind == "choice":
            return choice_prior(task, examples, lm, progress, neutral=neutral)
        read = states.reader(reference.sha256 if reference else None)
        items, _ = _rank(task, support, lm, adapted.latent, read, progress)
    return batch_prior(task, support, items, lm.profile.answer_style)


def answer_by(
    rule: AnswerRule, task: Task, examples: Sequence[Example], items: Sequence[Item], prior: Prior, style: AnswerStyle
) -> list[Item]:
    """Return one member's answers under a rule, from its answers under any other.

    Raises:
        NotApplicableError: a choice has no prior.
    """
    asked = zip(examples, items, strict=True)
    needed = rule.prior != "none"
    return [
        under_rule(example, item, rule, prior, scored_texts(task, example, style) if needed else ())
        for example, item in asked
    ]


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
    item = ranked(example, combine([list(a.scores) for a in answers], str(method)), gold_nll=nll)
    return item.model_copy(update={"gold_chars": answers[0].gold_chars})


def _assign(examples: Sequence[Example], adapted: AdaptedModel, encoder: Encoder | None) -> Assignment:
    """Return who answers what: the nearest member where there are centroids, else everybody everything."""
    if adapted.centroids is None:
        return [list(range(len(adapted.members)))] * len(examples)
    if encoder is None:
        raise ValueError("routing needs the encoder")
    (centroids,) = load_file(adapted.centroids).values()
    if len(centroids) != len(adapted.members):
        raise InputError(f"{adapted.centroids}: {len(centroids)} centroids for {len(adapted.members)} adapters")
    return [[member] for member in route(encoder.embed([encoder_text(example) for example in examples]), centroids)]


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
    return ranking(examples, scored), sum(score.cut > 0 for score in scored)


def ranking(examples: Sequence[Example], scored: Sequence[QueryScore]) -> list[Item]:
    """Return the items of questions whose choices were scored, each choice by its log-probability a character."""
    items = []
    for example, score in zip(examples, scored, strict=True):
        choices = tuple(ChoiceLikelihood(b.logprob, b.tokens, b.chars) for b in score.branches)
        gold = choices[example.answer]
        item = ranked(example, [branch.per_char for branch in score.branches], gold_nll=-gold.logprob)
        items.append(item.model_copy(update={"gold_chars": gold.chars, "choices": choices}))
    return items


def _write(
    task: Task,
    examples: Sequence[Example],
    lm: LanguageModel,
    latent: LatentSettings | None,
    read: Reader,
    progress: Progress,
) -> tuple[list[Item], int]:
    """Return one model's items by parsing what it writes, and how many prompts were cut.

    Where the right answer is not known, nothing is graded: the item has the text and the choice that it names.
    """
    prompts = [task.ask(example) for example in examples]
    written = generate(
        lm, prompts, max_new_tokens=task.max_new_tokens, stop=task.stop, move=moving(latent), progress=progress
    )
    golds = [
        Query(prefix=prompt, branches=(Branch(scored=f" {task.gold(example)}"),))
        for prompt, example in zip(prompts, examples, strict=True)
        if example.labelled
    ]
    scored = iter(score_queries(lm, golds, move=moving(latent), read=read))  # fast; the writing is what is counted
    items = [
        graded(task, example, answer, next(scored)) if example.labelled else ungraded(task, example, answer)
        for example, answer in zip(examples, written, strict=True)
    ]
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
        guessing=task.guessing(example, "generate"),
    )


def ungraded(task: Task, example: Example, answer: Generated) -> Item:
    """Return what was written to a question whose answer nobody knows: not right, and without a loss."""
    choice, confidence = chosen(task, example, answer.text), answer.mean_prob
    return Item(id=example.id, choice=choice, correct=False, loss=0.0, text=answer.text, confidence=confidence)


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

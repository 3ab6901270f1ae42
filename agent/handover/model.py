"""A model that answers as a run adopted it: adapters, how they answer together, Latent and the answer rule."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.handover.settings import Handed
from cao.errors import InputError, NotApplicableError
from cao.inference.chat import by_chat
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.tasks import PRACTICE, TASKS
from cao.tasks.base import Task, lettered, plain, read_id
from cao.tasks.files.chats import has_user, is_chat, turns_of, unfolded
from cao.tasks.files.keys import EARLIER
from cao.tasks.files.rows import BadRowError, text_of
from cao.types import AdaptedModel, AnswerRule, Example, Item, Record, Turns
from tools.evaluate import answer_by, evaluate, together
from tools.evaluate.answer_rule import Prior
from tools.evaluate.priors import choice_prior, with_adapter

MOST_TOKENS = 4096
OWN = Task(
    name="own",
    title="your own questions",
    source="whoever asks them",
    load=list,
    ask=lambda one: lettered(one) if one.choices else plain(one.prompt),
    max_new_tokens=48,
    has_train=False,
    labelled=False,
)
"""How questions are asked that belong to no built-in task: as those of a user's file are."""


class Answer(Record):
    """What a model answered.

    Attributes:
        text: the choice's text, or what was written.
        choice: index of the choice, None where there are none or the text names none.
        scores: of the choices under the model's answer rule, empty where the answer was written.
        confidence: geometric mean of the written tokens' probabilities; None where a choice was ranked.
    """

    text: str
    choice: int | None = None
    scores: tuple[float, ...] = ()
    confidence: float | None = None


@dataclass(frozen=True)
class Model:
    """A model that answers. It is no use to two threads at once: adapters are put on and taken off the one base model.

    Attributes:
        handed: what of it is no weights.
        folder: where it was read from.
        adapted: its adapters, and how they answer together.
        lm: the base model.
        encoder: by which questions are routed, where they are.
    """

    handed: Handed
    folder: Path
    adapted: AdaptedModel
    lm: LanguageModel
    encoder: Encoder

    def answer(self, question: str, choices: Sequence[str] = (), *, context: str = "") -> Answer:
        """Answer a question.

        Args:
            question: the question.
            choices: of which one is the answer; without any, the answer is written, asked for by the model's chat
                template where it has one.
            context: a passage that the question is about.

        Raises:
            InputError: the question is blank, the choices are not different texts, or other ones than this model was
                calibrated for.
        """
        given = choices if isinstance(choices, str) else list(choices)
        return self.answer_all([{"question": question, "choices": given, "context": context}])[0]

    def answer_all(self, questions: Sequence[str | Mapping[str, object]]) -> list[Answer]:
        """Answer questions together, which is faster than one by one.

        Args:
            questions: texts, or mappings with ``question`` and perhaps ``choices`` and ``context``, or with a chat's
                ``messages`` in the place of question and context; all of them have choices, or none has.

        Raises:
            InputError: as ``answer`` does.
        """
        examples = [_example(one, number) for number, one in enumerate(questions, 1)]
        if len({bool(example.choices) for example in examples}) > 1:
            raise InputError("some questions have choices and others have none; ask them apart")
        if not examples:
            return []
        ranks, task = bool(examples[0].choices) and self.handed.protocol == "likelihood", self._asked_as(examples)
        with _in_words():
            items = self._ranked(task, examples) if ranks else self._written(task, examples)
        return [_told(example, item) for example, item in zip(examples, items, strict=True)]

    def generate(self, prompt: str, *, max_new_tokens: int = 64, stop: Sequence[str] = ()) -> str:
        """Continue a text, greedily.

        Args:
            prompt: the text as it is, without a chat template.
            max_new_tokens: of the continuation at most, 1 to 4096.
            stop: texts that end it.

        Raises:
            InputError: the prompt is blank, or the number out of range.
        """
        if not 1 <= max_new_tokens <= MOST_TOKENS:
            raise InputError(f"max_new_tokens lies between 1 and {MOST_TOKENS}, and is not {max_new_tokens}")
        _text(prompt, "the prompt")
        example = Example(id="prompt", question=prompt, labelled=False)  # its last line break may end a chat's turn
        task = replace(OWN, ask=lambda one: one.question, max_new_tokens=max_new_tokens, stop=tuple(stop))
        with _in_words():
            return self._written(task, [example])[0].text

    def _asked_as(self, examples: Sequence[Example]) -> Task:
        """Return the task by which questions are asked, as the run asked its own."""
        handed, kept = self.handed, self.handed.answering
        writes = handed.protocol == "generate"
        named = (TASKS | PRACTICE).get(handed.task)
        task = named if named and (writes or examples[0].choices) else OWN
        chat = kept.chat or not (writes or examples[0].choices)  # a run that ranked did not ask for written answers
        task = by_chat(task, self.lm) if chat else task
        return replace(task, max_new_tokens=kept.max_new_tokens, stop=kept.stop) if writes else task

    def _written(self, task: Task, examples: Sequence[Example]) -> list[Item]:
        model = self.adapted.under(AnswerRule())  # a rule is for likelihoods
        return evaluate(task, examples, model, "generate", lm=self.lm, encoder=self.encoder)

    def _ranked(self, task: Task, examples: Sequence[Example]) -> list[Item]:
        adapted, style = self.adapted, self.lm.profile.answer_style
        try:
            _ = [task.query(example, style) for example in examples]
        except (ValueError, IndexError):
            raise InputError(f"a question has not the form in which {task.name} asks") from None
        several = len(adapted.members) > 1 and adapted.centroids is None
        alone = [AdaptedModel(members=(member,), latent=adapted.latent) for member in adapted.members]
        models = alone if several else [adapted.under(AnswerRule())]
        each = [self._by_rule(task, examples, model, member) for member, model in enumerate(models)]
        asked = zip(examples, zip(*each, strict=True), strict=True)
        return [together(example, given, adapted.method) for example, given in asked]

    def _by_rule(self, task: Task, examples: Sequence[Example], model: AdaptedModel, member: int) -> list[Item]:
        """Return what one model answers, under the answer rule; each item says which adapter of a routed model it was.

        Args:
            task: how questions are asked.
            examples: the questions.
            model: an adapter, or adapters to which questions are routed, under the default rule.
            member: which of the adapters it is, where it is one.
        """
        rule, style = self.adapted.answer_rule, self.lm.profile.answer_style
        items = evaluate(task, examples, model, "likelihood", lm=self.lm, encoder=self.encoder)
        if rule == AnswerRule():
            return items
        who = [item.member if self.adapted.centroids else member for item in items]
        priors = {one: self._prior(task, examples, one) for one in sorted(set(who))}
        asked = zip(examples, items, who, strict=True)
        return [answer_by(rule, task, [one], [item], priors[answers], style)[0] for one, item, answers in asked]

    def _prior(self, task: Task, examples: Sequence[Example], member: int) -> Prior:
        kind, kept = self.adapted.answer_rule.prior, self.handed.answering
        if kind != "choice":
            return kept.priors[member] if kind == "batch" else {}
        with with_adapter(self.lm, self.adapted.members[member]):
            return choice_prior(task, examples, self.lm, neutral=kept.neutral)


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn what a model cannot do into an error of whoever asked."""
    try:
        yield
    except NotApplicableError as error:
        raise InputError(f"not answered: {error}") from None


def _text(value: object, what: str) -> str:
    try:
        return text_of(value, what)
    except BadRowError as error:
        raise InputError(str(error)) from None


def _example(asked: str | Mapping[str, object], number: int) -> Example:
    """Return a question as a run's own questions are understood."""
    where = f"question {number}"
    values: Mapping[str, object] = {"question": asked} if isinstance(asked, str) else asked
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: is a text, or a mapping with question, and perhaps choices and context")
    turns: Turns = ()
    if "messages" in values:
        values, turns = _of_chat(values, where)
    question = _text(values.get("question"), f"{where}: 'question'")
    context = _text(values["context"], f"{where}: 'context'") if values.get("context") else ""
    listed = values.get("choices") or ()
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise InputError(f"{where}: 'choices' must be a list of texts")
    choices = tuple(_text(choice, f"{where}: a choice") for choice in listed)
    if len(set(choices)) < len(choices):
        raise InputError(f"{where}: a choice appears more than once")
    return Example(
        id=read_id(context, question, *choices),
        question=question,
        choices=choices,
        context=context,
        labelled=False,
        turns=turns,
    )


def _of_chat(values: Mapping[str, object], where: str) -> tuple[Mapping[str, object], Turns]:
    """Return what a chat's last user message asks with what was said before it, and the turns before it."""
    chat = values["messages"]
    if not is_chat(chat) or not has_user(chat):
        raise InputError(f"{where}: 'messages' must be a list of messages with role and content, one of the user")
    row = unfolded({"messages": chat})
    context = f"messages{EARLIER}"
    return {**values, "question": row["messages"], "context": row.get(context)}, turns_of(row, [context])


def _told(example: Example, item: Item) -> Answer:
    choice = item.choice if item.choice >= 0 else None
    text = example.choices[item.choice] if choice is not None and not item.text else item.text.strip()
    return Answer(text=text, choice=choice, scores=item.scores, confidence=None if item.scores else item.confidence)

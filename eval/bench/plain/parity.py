"""``parity``: whether lm-evaluation-harness grades our questions as we do, item by item.

Each task's questions become a local multiple-choice task of the harness, with the prompts and choices that we score,
and its own evaluator asks and grades them on the same model object; it normalises in float32, as we do. ``acc`` is the
harness's argmax of log-likelihoods and our answer rule without a length; ``acc_norm`` is its argmax by length, which
counts characters of the choice, and our default rule. WinoGrande scores one end behind two beginnings; the harness
would divide by the beginnings' lengths, so it has no ``acc_norm`` here. An item is equal where both sides predict the
same choice and call it right alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import AdaptedModel, AnswerRule, Example, Item, Record
from eval.bench.measure import BenchResult, Line, machine, plain_linear
from eval.bench.plain.harness import VERSION, Document, Sample, choices, evaluated, metrics_of, open_harness
from tools.evaluate import evaluate
from tools.evaluate.answer_rule import under_rule

RULES = {"acc": AnswerRule(length="none"), "acc_norm": AnswerRule()}
"""The harness's metric → our answer rule."""


class Unequal(Record):
    """An item that the two sides grade differently.

    Attributes:
        task: its task.
        id: of the question.
        metric: ``acc`` or ``acc_norm``.
        ours: our choice.
        harness: the harness's.
        gap: how far the two choices lie apart, the smaller of both sides' (nats, per character under ``acc_norm``).
    """

    task: str
    id: str
    metric: str
    ours: int
    harness: int
    gap: float


class TaskParity(Record):
    """What was found on one task.

    Attributes:
        questions: how many.
        equal: metric → of them, predicted and graded alike.
        ours: metric → our accuracy.
        harness: metric → the accuracy that the harness reports.
        largest_difference: of the log-likelihoods of a choice, nats.
    """

    questions: int
    equal: dict[str, int]
    ours: dict[str, float]
    harness: dict[str, float]
    largest_difference: float


class ParityResult(BenchResult):
    """Whether both sides grade alike.

    Attributes:
        harness: its version and batch.
        dtype: what the model computed in.
        tasks: name → what was found.
        differences: the items that are not equal.
    """

    harness: str
    dtype: str
    tasks: dict[str, TaskParity]
    differences: list[Unequal]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        lines = [("harness", self.harness), ("computed in", self.dtype)]
        for metric, what in (("acc", "log-likelihood"), ("acc_norm", "log-likelihood by character")):
            having = [found for found in self.tasks.values() if metric in found.equal]
            equal, total = sum(found.equal[metric] for found in having), sum(found.questions for found in having)
            lines.append((f"{metric} ({what})", f"{equal} of {total} items equal"))
        for name, found in self.tasks.items():
            both = (f"{m} {100 * found.ours[m]:.1f} % and {100 * found.harness[m]:.1f} %" for m in found.equal)
            apart = f"log-likelihoods at most {found.largest_difference:.2g} nats apart"
            lines.append((name, f"{found.questions} questions; ours and theirs: {', '.join(both)}; {apart}"))
        for each in self.differences:
            told = f"ours {each.ours}, theirs {each.harness}, {each.gap:.2g} nats apart"
            lines.append((f"{each.task} {each.id}", f"{each.metric}: {told}"))
        return lines


@dataclass(frozen=True)
class Graded:
    """Both sides' answers to one task's questions.

    Attributes:
        task: the task.
        ours: metric → our items by its answer rule.
        theirs: the harness's samples.
    """

    task: str
    ours: dict[str, list[Item]]
    theirs: list[Sample]


def document(task: Task, example: Example, lm: LanguageModel) -> Document:
    """Return a question as a document of the harness: what we read, and what we score behind it.

    Raises:
        InputError: beginnings and ends both differ, or ends that differ are not each behind a space.
    """
    query = task.query(example, lm.profile.answer_style)
    beginnings = [query.prefix + branch.lead for branch in query.branches]
    ends = [branch.scored for branch in query.branches]
    if len(set(beginnings)) == len(set(ends)) == 1:
        raise InputError(f"{task.name}: the choices of {example.question[:60]!r} are all the same")
    if len(set(beginnings)) == 1:
        beginnings = beginnings[:1]
    elif len(set(ends)) == 1:
        ends = ends[:1]
    else:
        raise InputError(f"{task.name}: what is read and what is scored both differ, which the harness cannot ask")
    if len(ends) > 1 and any(end != f" {end.strip()}" for end in ends):
        raise InputError(f"{task.name}: a choice is not behind one space, so the harness cannot ask it alike")
    return {"id": example.id, "beginnings": beginnings, "ends": ends, "gold": example.answer}


def bench(
    lm: LanguageModel, asked: Sequence[tuple[Task, list[Example]]], *, batch: int, progress: Progress = silent
) -> ParityResult:
    """Have both sides grade the same questions.

    Args:
        lm: the model, undressed.
        asked: tasks, each with its questions.
        batch: sequences of one forward pass of the harness.
        progress: called after each task.

    Raises:
        InputError: a task cannot be asked alike.
        UnavailableError: the harness cannot be imported.
    """
    harness, described = open_harness(lm, batch, "float32"), machine()
    documents = [[document(task, example, lm) for example in examples] for task, examples in asked]
    found: dict[str, TaskParity] = {}
    differences: list[Unequal] = []
    for done, ((task, examples), docs) in enumerate(zip(asked, documents, strict=True), 1):
        items = evaluate(task, examples, AdaptedModel(), "likelihood", lm=lm)
        pairs = list(zip(examples, items, strict=True))
        ours = {metric: [under_rule(e, item, rule, {}, ()) for e, item in pairs] for metric, rule in RULES.items()}
        with plain_linear(lm.model):
            graded = Graded(task.name, ours, evaluated(harness, docs))
        found[task.name], unequal = compared(graded)
        differences += unequal
        progress("parity", done, len(asked))
    return ParityResult(
        bench="parity",
        machine=described,
        repetitions=1,
        harness=f"lm_eval {VERSION}, batch {batch}",
        dtype=lm.dtype,
        tasks=found,
        differences=differences,
    )


def compared(graded: Graded) -> tuple[TaskParity, list[Unequal]]:
    """Return what both sides' answers to a task's questions come to, and the items that are not equal."""
    n, unequal, metrics = len(graded.theirs), list[Unequal](), metrics_of(graded.theirs[0]["doc"])
    lls = [[ll for ll, _ in sample["filtered_resps"]] for sample in graded.theirs]
    right = {"acc": [sample["acc"] for sample in graded.theirs], "acc_norm": [s["acc_norm"] for s in graded.theirs]}
    for metric in metrics:
        scores = lls if metric == "acc" else list(map(_by_characters, lls, graded.theirs))
        rows = zip(graded.ours[metric], scores, choices(scores), right[metric], strict=True)
        for item, theirs, choice, good in rows:
            if item.choice != choice or item.correct != bool(good):
                gap = min(item.scores[item.choice] - item.scores[choice], theirs[choice] - theirs[item.choice])
                unequal.append(
                    Unequal(task=graded.task, id=item.id, metric=metric, ours=item.choice, harness=choice, gap=gap)
                )
    apart = [
        abs(choice.logprob - ll)
        for item, theirs in zip(graded.ours["acc"], lls, strict=True)
        for choice, ll in zip(item.choices, theirs, strict=True)
    ]
    parity = TaskParity(
        questions=n,
        equal={metric: n - sum(each.metric == metric for each in unequal) for metric in metrics},
        ours={metric: sum(item.correct for item in graded.ours[metric]) / n for metric in metrics},
        harness={metric: sum(right[metric]) / n for metric in metrics},
        largest_difference=max(apart),
    )
    return parity, unequal


def _by_characters(lls: Sequence[float], sample: Sample) -> list[float]:
    """Return the log-likelihoods of a question's ends by their characters, without the space before them."""
    return [ll / max(1, len(text.strip())) for ll, text in zip(lls, sample["doc"]["ends"], strict=True)]

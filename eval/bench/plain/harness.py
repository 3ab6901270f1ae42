"""lm-evaluation-harness beside us: its Hugging Face backend on the same model object and the same texts."""

import logging
from collections.abc import Sequence
from typing import Protocol, TypedDict

from datasets import Dataset

from cao.errors import UnavailableError
from cao.machine.extras import install, need
from cao.model.language_model import LanguageModel
from cao.types import Query

VERSION = "0.4.13"


class Harness(Protocol):
    """What is used of the harness's backend around a model; the package has no types of its own."""

    model: object

    def loglikelihood(self, requests: Sequence[object], *, disable_tqdm: bool) -> list[tuple[float, bool]]:
        """Return each request's log-likelihood, and whether greedy writing gives it."""


class HarnessClass(Protocol):
    """The class of the harness's Hugging Face backend."""

    def __call__(self, *, pretrained: object, tokenizer: object, batch_size: int, softmax_dtype: str | None) -> Harness:
        """Make a backend around a loaded model."""


class Document(TypedDict):
    """A question as a document of the harness.

    Most have one beginning and several ends. Where the choices stand before what is scored, there are several
    beginnings and one end, as in the harness's own WinoGrande.
    """

    id: str
    beginnings: list[str]
    ends: list[str]
    gold: int


METRICS = ("acc", "acc_norm")
"""The harness's: argmax of the log-likelihoods, and of these by the characters of what it calls the choices."""


def metrics_of(document: Document) -> tuple[str, ...]:
    """Return the metrics that grade a document: of one end the harness would divide by its beginnings' characters."""
    return METRICS[:1] if len(document["ends"]) == 1 else METRICS


class Sample(TypedDict):
    """What the harness logs of a document, as far as it is read here."""

    doc_id: int
    doc: Document
    filtered_resps: list[tuple[float, bool]]
    acc: float
    acc_norm: float


def check_harness() -> HarnessClass:
    """Return the class of the harness's Hugging Face backend.

    Raises:
        UnavailableError: the harness cannot be imported.
    """
    need("bench")
    try:
        from lm_eval.models.huggingface import HFLM  # noqa: PLC0415  (an optional extra, seconds to import)
    except ImportError as error:
        raise UnavailableError(f"lm_eval cannot be imported ({error}); run: {install('bench')}") from None
    backend: HarnessClass = HFLM
    return backend


def open_harness(lm: LanguageModel, batch: int, softmax: str | None = None) -> Harness:
    """Return the harness's backend around a model that is loaded already.

    Args:
        lm: the model, undressed; the harness gets the same object.
        batch: sequences of one forward pass.
        softmax: dtype in which the harness normalises logits; None is its default, the model's own.

    Raises:
        UnavailableError: the harness cannot be imported.
    """
    hflm = check_harness()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return hflm(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=batch, softmax_dtype=softmax)


def pairs(queries: Sequence[Query]) -> list[tuple[str, str]]:
    """Return (context, continuation) of every branch, one question after the other."""
    return [(query.prefix + branch.lead, branch.scored) for query in queries for branch in query.branches]


def per_char(harness: Harness, queries: Sequence[Query]) -> list[list[float]]:
    """Return each branch's log-probability by character, as our own scores are, from the harness's log-likelihoods.

    Args:
        harness: what ``open_harness`` returned.
        queries: Q questions.
    """
    from lm_eval.api.instance import Instance  # noqa: PLC0415  (an optional extra)

    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs(queries))
    ]
    answered = iter(harness.loglikelihood(requests, disable_tqdm=True))
    return [[next(answered)[0] / max(1, len(branch.scored.strip())) for branch in query.branches] for query in queries]


def choices(scores: Sequence[Sequence[float]]) -> list[int]:
    """Return the best branch of each question, the first among equals."""
    return [list(each).index(max(each)) for each in scores]


def evaluated(harness: Harness, documents: Sequence[Document]) -> list[Sample]:
    """Return what the harness's own evaluator logs of a local multiple-choice task.

    Args:
        harness: what ``open_harness`` returned.
        documents: its questions, all of one kind.
    """
    from lm_eval import evaluator, tasks  # noqa: PLC0415  (an optional extra)

    asked = Dataset.from_list([_row(document) for document in documents])
    several = len(documents[0]["ends"]) > 1
    told = ("beginning", "choices", "gold") if several else ("gold", "beginnings", "end")
    config = {
        **{"task": "parity", "custom_dataset": lambda **_: {"test": asked}, "test_split": "test"},
        **{"output_type": "multiple_choice", "target_delimiter": " " if several else ""},
        **dict(zip(("doc_to_text", "doc_to_choice", "doc_to_target"), told, strict=True)),
        "metric_list": [{"metric": metric} for metric in METRICS],
    }
    loaded = tasks.TaskManager(include_defaults=False).load([config])
    logged = evaluator.evaluate(lm=harness, task_dict=loaded, bootstrap_iters=0)["samples"]["parity"]
    samples: list[Sample] = sorted(logged, key=lambda sample: sample["doc_id"])
    return samples


def _row(document: Document) -> dict[str, object]:
    """Return a document with what the harness reads of it; it counts characters of ``choices`` without their space."""
    (beginning, *_), ends = document["beginnings"], document["ends"]
    return {**document, "beginning": beginning, "end": ends[0], "choices": [end.removeprefix(" ") for end in ends]}

"""Sample logs of lm-evaluation-harness: ``samples_<task>_<date>.jsonl``, as ``--log_samples`` writes them.

A line is a document under one filter: the document, the requests as ``arguments`` (``gen_args_0`` → ``arg_0`` the
context, ``arg_1`` the continuation), the replies as texts in ``filtered_resps``, and a key for each metric.

Scores of the choices follow the metric: log-likelihoods for ``acc``, by character for ``acc_norm``, by byte for
``acc_bytes``, less those without the question for ``acc_mutual_info``. Any other metric has none. Whether an answer is
right is what the log says.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from agent.record.wording import one_line
from cao.errors import InputError
from cao.tasks.base import as_read
from eval.comparison.answers import BY_DOCUMENT, Answered, Name, Side, checked_scores, names_of, once, read_lines

MUTUAL = "acc_mutual_info"
_FILE = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT[\d.:-]+\.jsonl")
_ASKED = re.compile(r"(?:(?P<context>.*)\n)?(?:Question|Q): ?(?P<question>.*?)\s*(?:Answer|A):\s*", re.DOTALL)


class Sample(BaseModel):
    """A line of a log; metrics are further keys."""

    model_config = ConfigDict(frozen=True, extra="allow")

    doc_id: int
    doc: JsonValue
    target: JsonValue
    arguments: dict[str, dict[str, JsonValue]]
    filtered_resps: list[JsonValue]
    filter: str = "none"
    metrics: list[str] = []
    doc_hash: str = ""

    @property
    def decisive(self) -> list[str]:
        """The metrics that say whether this answer is right, in the log's order."""
        extra = self.model_extra or {}
        return [name for name in self.metrics if extra.get(name) in (0, 1)]


@dataclass(frozen=True)
class Requests:
    """What the harness asked of one document.

    Attributes:
        contexts: of each request.
        continuations: of each request that judges one, else empty.
        lls: their log-likelihoods, nats.
    """

    contexts: list[str]
    continuations: list[str]
    lls: list[float]

    @property
    def choices(self) -> list[str]:
        """The choices as they were judged, without the space before them."""
        return [text.removeprefix(" ") for text in self.continuations]


def read_samples(file: Path, metric: str | None, chosen: str | None) -> Side:
    """Return the answers of a sample log.

    Args:
        file: the log.
        metric: what says whether an answer is right; the log's first such metric where None.
        chosen: the filter, where a log has several.

    Raises:
        InputError: the log is damaged, or has no such metric or filter, or several filters and none is chosen.
    """
    rows = list(read_lines(file, Sample))
    if not rows:
        raise InputError(f"{file}: is empty")
    filters = list(dict.fromkeys(sample.filter for _, sample in rows))
    shown = ", ".join(one_line(name, 40) for name in filters)
    if chosen is not None and chosen not in filters:
        raise InputError(f"{file}: has no filter {chosen!r}; it has {shown}")
    if chosen is None and len(filters) > 1:
        raise InputError(f"{file}: has several filters ({shown}); choose one with --filter")
    kept = [(place, sample) for place, sample in rows if chosen in (None, sample.filter)]
    first = kept[0][1]
    rule = metric or next(iter(first.decisive), None)
    if rule is None:
        raise InputError(f"{file}: has no metric that is right or wrong, only {', '.join(first.metrics) or 'none'}")
    once([f"doc_id {sample.doc_id}" for _, sample in kept], file)
    named = _FILE.fullmatch(file.name)
    label = f"{rule}, filter {filters[0] if chosen is None else chosen}"
    answers = [_answer(sample, rule, place) for place, sample in kept]
    return Side(str(file), "lm-evaluation-harness", named[1] if named else None, None, label, answers)


def _answer(sample: Sample, metric: str, place: str) -> Answered:
    value = (sample.model_extra or {}).get(metric)
    if metric not in sample.metrics or value not in (0, 1):
        told = ", ".join(sample.decisive) or "none"
        raise InputError(f"{place}: {metric} does not say whether the answer is right; what does: {told}")
    asked = _requests(sample, place)
    names: list[Name] = [(BY_DOCUMENT, sample.doc_hash)] if sample.doc_hash else []
    for wording in _wordings(sample, asked):
        names += names_of(*wording)
    scores = _scores(asked, metric)
    gold = _gold(sample.target, asked.choices[: len(scores)])
    known = checked_scores(scores, gold, place) if gold >= 0 else ()
    text = as_read(asked.choices[gold]) if gold >= 0 else ""
    return Answered(tuple(dict.fromkeys(names)), (bool(value),), known, gold, text)


def _requests(sample: Sample, place: str) -> Requests:
    """Return what was asked; raises InputError where a log-likelihood is no finite number."""
    pairs = [(each.get("arg_0"), each.get("arg_1")) for each in sample.arguments.values()]
    contexts = [text for text, _ in pairs if isinstance(text, str)]
    continuations = [text for _, text in pairs if isinstance(text, str)]
    judged = [reply for reply in sample.filtered_resps if isinstance(reply, list) and len(reply) == 2]
    if len(continuations) != len(pairs) or len(judged) != len(sample.filtered_resps):
        return Requests(contexts, [], [])
    if len(judged) != len(pairs):
        raise InputError(f"{place}: {len(pairs)} requests have {len(judged)} replies")
    try:
        lls = [float(str(reply[0])) for reply in judged]
    except ValueError:
        raise InputError(f"{place}: a log-likelihood is no number") from None
    if not all(map(math.isfinite, lls)):
        raise InputError(f"{place}: a log-likelihood is not finite")
    if MUTUAL in sample.metrics:  # the second half asks for the choices without the question
        return Requests(contexts, continuations[: len(pairs) // 2], lls)
    return Requests(contexts, continuations, lls)


def _scores(asked: Requests, metric: str) -> list[float]:
    """Return the scores of the choices that the metric decides by, none where there are fewer than two."""
    k = len(asked.continuations)
    lls, rest = asked.lls[:k], asked.lls[k:]
    if k < 2 or (len(set(asked.continuations)) == 1 and metric != "acc"):  # one end, several beginnings: no lengths
        return []
    if metric == "acc":
        return lls
    if metric == MUTUAL and len(rest) == k:
        return [with_it - without for with_it, without in zip(lls, rest, strict=True)]
    if metric in ("acc_norm", "acc_bytes"):
        sizes = [len(text if metric == "acc_norm" else text.encode()) for text in asked.choices]
        return [ll / max(1, size) for ll, size in zip(lls, sizes, strict=True)]
    return []


def _gold(target: JsonValue, choices: Sequence[str]) -> int:
    """Return the index of the right choice, -1 where the log does not tell one."""
    told = str(target).strip()
    if re.fullmatch(r"\d{1,4}", told) and int(told) < len(choices):
        return int(told)
    same = [i for i, choice in enumerate(choices) if choice.strip() == told]
    return same[0] if len(same) == 1 else -1


def _wordings(sample: Sample, asked: Requests) -> list[tuple[str, str, list[str]]]:
    """Return (context, question, choices) as the document may have them, and as the prompt has them."""
    found: list[tuple[str, str, list[str]]] = []
    choices = [] if len(set(asked.choices)) < 2 else asked.choices
    if isinstance(sample.doc, dict):
        doc = sample.doc
        question = _first(doc, ("question", "query", "goal", "question_stem"))
        context = _first(doc, ("context", "passage", "support"))
        if question:
            found.append((context, question, _listed(doc) or choices))
    prompt = asked.contexts[0] if asked.contexts else ""
    for text in dict.fromkeys((prompt, prompt.rpartition("\n\n")[2])) if prompt else ():  # the last of several shots
        match = _ASKED.fullmatch(text)
        found.append((match["context"] or "", match["question"], choices) if match else ("", text, choices))
    return found


def _first(doc: dict[str, JsonValue], keys: Sequence[str]) -> str:
    return next((text for key in keys if isinstance(text := doc.get(key), str)), "")


def _listed(doc: dict[str, JsonValue]) -> list[str]:
    """Return the choices that a document lists, as texts or as ``{"text": [...]}``."""
    listed = doc.get("choices")
    listed = listed.get("text") if isinstance(listed, dict) else listed
    texts = [text for text in listed if isinstance(text, str)] if isinstance(listed, list) else []
    return texts if isinstance(listed, list) and len(texts) == len(listed) else []

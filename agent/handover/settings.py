"""``cao.json``: what of a handed-over model is no weights. Export writes it, and what serves the model reads it."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from agent.record.answering import Answering, small_file
from agent.record.measurements import Unjudged
from agent.record.schema import Adopted, RunRecord
from agent.record.wording import one_line
from cao.configuration import explain
from cao.errors import InputError
from cao.files import check_sums
from cao.profile_settings import ProfileSettings
from cao.strategies.latent import Latent
from cao.strategies.tts import ROUTING, Method
from cao.types import AnswerProtocol, AnswerRule, LatentSettings, Record, StrategyFields

CAO_FILE = "cao.json"
VERSION: Literal[2] = 2
"""Raised with every change of the file that an older reader would misread."""


class Handed(Record):
    """What the file holds; the adapters lie beside it.

    Attributes:
        version: of the file; 1 has no ``profile``, no ``merged`` and no ``answering``.
        run_id, task: what made the model, and for what.
        base_model, base_sha256: the base model's name, and the hash of its weights.
        profile: what is laid over the base model's profile.
        merged: whether the base model is the folder itself, with the adapter in its weights.
        protocol: how the run's answers were judged.
        members: folders of the adapters that answer, None for the base model itself; relative to the file.
        method: how several answer together.
        routes: file by which each question goes to one of them.
        answer_rule: how likelihoods become answers, None for the default.
        latent: what is fitted to each question.
        answering: how questions are asked.
        strategies: what was accepted, one built on the other.
        unjudged: what was made of prompts without labels.
    """

    version: Literal[1, 2] = VERSION
    run_id: str
    task: str
    base_model: str
    base_sha256: str
    profile: ProfileSettings = ProfileSettings()
    merged: bool = False
    protocol: AnswerProtocol
    members: Annotated[tuple[str | None, ...], Field(min_length=1, max_length=256)]
    method: Method | None = None
    routes: str | None = None
    answer_rule: AnswerRule | None = None
    latent: LatentSettings | None = None
    answering: Answering = Answering()
    strategies: tuple[StrategyFields, ...] = ()
    unjudged: Unjudged | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> "Handed":
        several = len(self.members) > 1
        if several and self.method is None:
            raise ValueError("several members, and no method by which they answer together")
        if several and (self.method in ROUTING) != (self.routes is not None):
            raise ValueError("the method and the routes do not fit each other")
        prior = self.answer_rule.prior if self.answer_rule else "none"
        if prior == "batch" and len(self.answering.priors) != len(self.members):
            raise ValueError("the answer rule takes off a prior of each member, which is not there")
        if self.latent:
            Latent(family="Latent", **self.latent.model_dump())
        return self

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def handed_of(
    run: RunRecord,
    adopted: Adopted | None,
    members: tuple[str | None, ...],
    routes: str | None,
    answering: Answering | None,
    rule: AnswerRule | None = None,
) -> Handed:
    """Return what of a run's model is no weights.

    Args:
        run: what made it.
        adopted: what the run adopted, None where an adapter alone, or the deployed model, is handed over.
        members: folders of the adapters that answer, None for the base model itself.
        routes: file of the routes, where each question goes to one adapter.
        answering: how the run asked; its priors are those of what it adopted, else of the deployed model.
        rule: by which the deployed model answers where nothing was adopted, None for the default.

    Raises:
        InputError: the run was made by a version that did not keep what its answer rule needs.
    """
    kept = answering or Answering()
    told = {
        "run_id": run.run_id,
        "task": run.task,
        "base_model": run.model,
        "base_sha256": run.model_sha256,
        "profile": run.config.get("profile") or {},
        "protocol": run.protocol,
        "members": members,
        "method": adopted.together.method if adopted and adopted.together else None,
        "routes": routes,
        "answer_rule": adopted.answer_rule if adopted else rule,
        "latent": adopted.latent if adopted else None,
        "answering": kept if adopted or rule else kept.model_copy(update={"priors": ()}),
        "strategies": adopted.accepted if adopted else (),
        "unjudged": run.unjudged,
    }
    try:
        return Handed.model_validate(told)
    except ValidationError as error:
        raise InputError(f"run {run.run_id}: {one_line(explain(error), 200)}; do the run again") from None


def read_handed(folder: Path) -> Handed:
    """Read a folder's ``cao.json``.

    Raises:
        InputError: it is damaged, or of a newer version.
    """
    check_sums(folder)
    file = folder / CAO_FILE
    content = small_file(file)
    try:
        return Handed.model_validate_json(content)
    except ValidationError as error:
        again = "export the run again, with this version"
        raise InputError(f"{file}: cannot be used; {one_line(explain(error), 200)}; {again}") from None


def inside(folder: Path, name: str, file: str) -> Path:
    """Return a path below a folder; the file that names it may have been changed by hand.

    Args:
        folder: nothing outside it is opened.
        name: relative to it.
        file: that names it, for the message.

    Raises:
        InputError: it leads elsewhere.
    """
    path = folder / name
    if "\0" in name or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise InputError(f"{folder / file}: names {name[:80]!r}, which is not in the folder")
    return path

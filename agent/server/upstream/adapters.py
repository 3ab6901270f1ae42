"""Adapters of a server behind this one, loaded by vLLM's dynamic LoRA calls, and seen to act before they are used."""

import contextlib
import threading
from pathlib import Path

import httpx2
from pydantic import BaseModel, ValidationError

from agent.handover.served import on_server
from agent.handover.verify import PROMPTS
from agent.record.schema import RunRecord
from agent.record.wording import one_line
from agent.server.roster import Served
from agent.server.settings import BASE
from agent.server.upstream.connection import Connection
from cao.errors import InputError, UnavailableError
from cao.model.soft_prompt.either import is_soft_prompt


class _Model(BaseModel):
    id: str


MOST_NAMES = 4_000_000
"""Bytes of the list of models that is read at most."""


class _Models(BaseModel):
    data: list[_Model]


class Adapters:
    """What the server serves: its base model, and what is loaded into it."""

    def __init__(self, to: Connection) -> None:
        """Prepare; nothing is sent.

        Args:
            to: the server.
        """
        self._to = to

    def base(self, name: str) -> Served:
        """Return the base model as it is served there.

        Args:
            name: by which it is known there.

        Raises:
            InputError: it is known by another name.
            UnavailableError: nobody answers there.
        """
        names = self._names()
        if names and name not in names:
            few = ", ".join(sorted(names)[:5])
            raise InputError(f"{self._to.origin} serves no {name!r}, but {few}; give --upstream-model another name")
        return Served(BASE, there=name)

    def open(self, base: str, task: str, folder: Path, record: RunRecord) -> Served:
        """Load what a run adopted into the server, and see that it acts there.

        Args:
            base: the base model's name there.
            task: the run adapted to.
            folder: of the run.
            record: of the run.

        Raises:
            InputError: what was adopted is more than one adapter, so no such server can answer by it.
            UnavailableError: the server does not load it, or serves the base model under its name.
        """
        adopted = record.adopted
        if adopted is None or adopted.adapter is None or adopted.together or adopted.latent:
            raise InputError(f"run {record.run_id}: adopted no single adapter, which is all that a server can load")
        name = f"{task}-{record.run_id}"
        there = (folder / adopted.adapter.path).absolute()
        if not there.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder}: names an adapter outside it")
        if is_soft_prompt(there):
            raise InputError(f"run {record.run_id}: adopted a soft prompt, and such a server loads LoRA alone")
        if name not in self._names():  # it may have outlived an earlier process of this server
            self._lora("load_lora_adapter", {"lora_name": name, "lora_path": str(there)})
        try:
            self._see(base, name)
        except BaseException:
            with contextlib.suppress(UnavailableError):
                self._unload(name)
            raise
        return Served(task, there=name, run_id=record.run_id)

    def _see(self, base: str, name: str) -> None:
        """See that an adapter acts.

        Raises:
            UnavailableError: it does not, or that cannot be seen.
        """
        offline, keyless = self._to.offline, not self._to.headers
        verdict = on_server(self._to.url, base, name, list(PROMPTS[:3]), offline=offline, keyless=keyless)
        if not verdict.acts:
            raise UnavailableError(f"{self._to.origin} took the adapter, and it does not act there: {verdict.reason}")

    def close(self, model: Served) -> None:
        """Have the server forget an adapter, once requests that were sent by its name have had their time."""

        def forget() -> None:
            with contextlib.suppress(UnavailableError):
                self._unload(model.there)

        later = threading.Timer(self._to.timeout_s, forget)
        later.daemon = True
        later.start()

    def _names(self) -> set[str]:
        """Return the names that the server serves."""
        told = bytearray()
        try:
            with self._to.asking.stream("GET", f"{self._to.url}/models", headers=self._to.headers) as reply:
                for part in reply.iter_bytes():
                    told += part
                    if len(told) > MOST_NAMES:
                        return set()
        except httpx2.HTTPError as error:
            at = f"{self._to.origin} cannot be reached ({type(error).__name__})"
            raise UnavailableError(f"{at}; start that server first, or give another --upstream") from None
        try:
            return {one.id for one in _Models.model_validate_json(bytes(told)).data}
        except ValidationError:
            return set()

    def _unload(self, name: str) -> None:
        self._lora("unload_lora_adapter", {"lora_name": name})

    def _lora(self, call: str, body: dict[str, str]) -> None:
        try:
            reply = self._to.asking.post(f"{self._to.url}/{call}", json=body, headers=self._to.headers)
        except httpx2.HTTPError as error:
            raise UnavailableError(f"{self._to.origin} cannot be reached ({type(error).__name__})") from None
        if reply.status_code != 200:
            how = "vLLM does this with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"
            words = one_line(self._to.said(reply.content), 200)
            status = f"HTTP {reply.status_code}" + (f" ({words})" if words else "")
            raise UnavailableError(f"{self._to.origin} answered {call} with {status}; {how}")

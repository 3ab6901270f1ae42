"""Texts continued by a server that speaks OpenAI's completions API, vLLM for example: batches, several at a time.

No more requests are ever under way than was asked for, and no further batch is made before one of them is answered, so
that a slow server slows this side down instead of filling a queue on either.
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from cao.errors import UnavailableError
from cao.progress import Progress, silent
from cao.types import Record
from policies.client.transport import FAILURES, Transport, with_retries

MOST_STOPS = 4
"""Stop texts that the API takes; an answer is cut at the others here."""


class ServerSettings(Record):
    """Which server writes, and how much it is asked for at a time. The key is read from the environment.

    Attributes:
        url: the server's address, with its path.
        model: the name that the server knows the model by.
        batch: prompts of one request.
        concurrency: requests under way at a time, at most.
        timeout_s: seconds that one request may take as a whole.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^@]*$")]
    model: Annotated[str, Field(min_length=1)]
    batch: Annotated[int, Field(ge=1, le=1024)] = 8
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120


class _Choice(BaseModel):
    index: int
    text: str


class _Completion(BaseModel):
    choices: list[_Choice]


class CompletionClient:
    """Continues texts greedily."""

    def __init__(self, settings: ServerSettings, *, offline: bool) -> None:
        """Prepare the client; nothing is sent.

        Args:
            settings: address, model and how much at a time.
            offline: refuse every address but this machine's own.

        Raises:
            InputError: this is no address.
            UnavailableError: no key, or an address that offline work forbids.
        """
        self._settings = settings
        self._transport = Transport(settings.url, settings.timeout_s, offline=offline)

    def __repr__(self) -> str:
        return f"CompletionClient({self._transport.origin}, {self._settings.model})"

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = (), progress: Progress = silent
    ) -> list[str]:
        """Return what follows each prompt, up to the first stop text.

        Args:
            prompts: Q texts.
            max_new_tokens: the budget of one answer.
            stop: texts that end an answer.
            progress: called after each batch.

        Raises:
            UnavailableError: the server cannot be reached, refuses after several attempts, or sends no completion.
        """
        size, texts = self._settings.batch, dict[int, str]()
        under_way: dict[Future[list[str]], int] = {}
        pool = ThreadPoolExecutor(self._settings.concurrency, "completions")
        try:
            for start in range(0, len(prompts), size):
                if len(under_way) == self._settings.concurrency:
                    self._collect(under_way, texts, progress, len(prompts))
                batch = list(prompts[start : start + size])
                under_way[pool.submit(self._ask, batch, max_new_tokens, list(stop))] = start
            while under_way:
                self._collect(under_way, texts, progress, len(prompts))
        finally:
            pool.shutdown(cancel_futures=True)
        return [texts[i] for i in range(len(prompts))]

    @staticmethod
    def _collect(
        under_way: dict[Future[list[str]], int], texts: dict[int, str], progress: Progress, total: int
    ) -> None:
        """Wait for a batch, and keep what has come."""
        for future in wait(under_way, return_when=FIRST_COMPLETED).done:
            start = under_way.pop(future)
            texts.update(enumerate(future.result(), start))
        progress("generate", len(texts), total)

    def _ask(self, batch: list[str], max_new_tokens: int, stop: list[str]) -> list[str]:
        try:
            body = with_retries(partial(self._send, batch, max_new_tokens, stop))
        except FAILURES as error:
            raise self._transport.unavailable(error, self._settings.model) from None
        try:
            choices = _Completion.model_validate_json(body).choices
        except ValidationError:
            choices = []
        texts = {choice.index: choice.text for choice in choices}
        if len(choices) != len(batch) or set(texts) != set(range(len(batch))):
            incomplete = f"{self._transport.origin} sent no completion for each of {len(batch)} prompts"
            raise UnavailableError(f"{incomplete}; check that it serves /completions, or give --server-batch 1")
        return [_before(self._transport.redact(texts[i]), stop) for i in range(len(batch))]

    def _send(self, batch: list[str], max_new_tokens: int, stop: list[str]) -> bytes:
        return self._transport.read(
            self._transport.sdk.completions.with_streaming_response.create(
                model=self._settings.model,
                prompt=batch,
                max_tokens=max_new_tokens,
                temperature=0.0,
                seed=0,
                stop=stop[:MOST_STOPS] or None,
            )
        )


def _before(text: str, stop: Sequence[str]) -> str:
    stops = [position for position in (text.find(mark) for mark in stop) if position >= 0]
    return text[: min(stops)] if stops else text

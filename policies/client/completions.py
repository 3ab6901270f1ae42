"""Texts continued by a server that speaks OpenAI's completions API, vLLM for example: batches, several at a time.

No more requests are ever under way than was asked for, and no further batch is made before one of them is answered, so
that a slow server slows this side down instead of filling a queue on either.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError

from cao.errors import UnavailableError
from cao.progress import Progress, silent
from cao.types import Record
from policies.client.transport import FAILURES, Streamed, Transport, with_retries

MOST_STOPS = 4
"""Stop texts that the API takes; an answer is cut at the others here."""

T = TypeVar("T")


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
    """Continues texts greedily.

    Attributes:
        settings: address, model and how much at a time.
        transport: the connection.
    """

    def __init__(self, settings: ServerSettings, *, offline: bool) -> None:
        """Prepare the client; nothing is sent.

        Args:
            settings: address, model and how much at a time.
            offline: refuse every address but this machine's own.

        Raises:
            InputError: this is no address.
            UnavailableError: no key, or an address that offline work forbids.
        """
        self.settings = settings
        self.transport = Transport(settings.url, settings.timeout_s, offline=offline)

    def __repr__(self) -> str:
        return f"CompletionClient({self.transport.origin}, {self.settings.model})"

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

        def send(batch: list[str]) -> AbstractContextManager[Streamed]:
            return self.transport.sdk.completions.with_streaming_response.create(
                model=self.settings.model,
                prompt=batch,
                max_tokens=max_new_tokens,
                temperature=0.0,
                seed=0,
                stop=list(stop[:MOST_STOPS]) or None,
            )

        def ask(batch: list[str]) -> list[str]:
            texts = self._texts(self.body(partial(send, batch)), len(batch))
            return [_before(self.transport.redact(text), stop) for text in texts]

        return self.in_batches(prompts, ask, "generate", progress)

    def in_batches(
        self, prompts: Sequence[str], ask: Callable[[list[str]], list[T]], label: str, progress: Progress
    ) -> list[T]:
        """Return what requests of a batch each bring, in the order of the prompts.

        Args:
            prompts: Q texts.
            ask: sends some of them and returns one result for each.
            label: of the progress.
            progress: called after each batch.
        """
        size, results = self.settings.batch, dict[int, T]()
        under_way: dict[Future[list[T]], int] = {}
        pool = ThreadPoolExecutor(self.settings.concurrency, "completions")

        def collect() -> None:
            """Wait for a batch, and keep what has come."""
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                start = under_way.pop(future)
                results.update(enumerate(future.result(), start))
            progress(label, len(results), len(prompts))

        try:
            for start in range(0, len(prompts), size):
                if len(under_way) == self.settings.concurrency:
                    collect()
                under_way[pool.submit(ask, list(prompts[start : start + size]))] = start
            while under_way:
                collect()
        finally:
            pool.shutdown(cancel_futures=True)
        return [results[i] for i in range(len(prompts))]

    def body(self, send: Callable[[], AbstractContextManager[Streamed]]) -> bytes:
        """Return the body of a reply.

        Args:
            send: opens the request; called again where trouble may pass.

        Raises:
            UnavailableError: there is none.
        """
        try:
            return with_retries(lambda: self.transport.read(send()))
        except FAILURES as error:
            raise self.transport.unavailable(error, self.settings.model) from None

    def incomplete(self, count: int) -> UnavailableError:
        """Return what to say of a reply without a result for each of ``count`` prompts."""
        told = f"{self.transport.origin} sent no completion for each of {count} prompts"
        return UnavailableError(f"{told}; check that it serves /completions, or give --server-batch 1")

    def _texts(self, body: bytes, count: int) -> list[str]:
        try:
            choices = _Completion.model_validate_json(body).choices
        except ValidationError:
            choices = []
        texts = {choice.index: choice.text for choice in choices}
        if len(choices) != count or set(texts) != set(range(count)):
            raise self.incomplete(count)
        return [texts[i] for i in range(count)]


def _before(text: str, stop: Sequence[str]) -> str:
    stops = [position for position in (text.find(mark) for mark in stop) if position >= 0]
    return text[: min(stops)] if stops else text

"""What a server that speaks OpenAI's completions API writes under two names."""

import math
from functools import partial

from pydantic import BaseModel, ValidationError

from agent.handover.comparison import TOKENS, Answer, Verdict, compared
from cao.errors import InputError, UnavailableError
from policies.client.transport import FAILURES, Transport, with_retries

SECONDS = 120.0
"""One request may take."""


def on_server(
    url: str, base: str | None, adapter: str | None, prompts: list[str], *, offline: bool, keyless: bool = False
) -> Verdict:
    """Return whether a server serves an adapter, and not the base model under its name.

    Args:
        url: its address, with its path.
        base: the name that it serves the base model by.
        adapter: the name that it serves the adapter by.
        prompts: what is asked.
        offline: refuse every address but this machine's own.
        keyless: whether another machine may be asked without a key, too.

    Raises:
        InputError: a name is missing, or both are one.
        UnavailableError: the server cannot be reached, or sends no completion.
    """
    if not base or not adapter:
        raise InputError("--server needs the two names that it serves: --base NAME and --adapter NAME")
    if base == adapter:
        raise InputError("--base and --adapter are one name; the server must serve each under its own")
    transport = Transport(url, SECONDS, offline=offline, keyless=keyless)
    names = (base, base, adapter)
    first, again, adapted = ([_asked(transport, name, prompt) for prompt in prompts] for name in names)
    return compared(transport.origin, first, again, adapted)


class _Logprobs(BaseModel):
    token_logprobs: list[float | None] | None = None


class _Choice(BaseModel):
    text: str
    logprobs: _Logprobs | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


def _asked(transport: Transport, model: str, prompt: str) -> Answer:
    """Return what a server's model writes behind a prompt, greedily."""
    try:
        body = with_retries(partial(_send, transport, model, prompt))
    except FAILURES as error:
        raise transport.unavailable(error, model) from None
    try:
        choice = _Completion.model_validate_json(body).choices[0]
    except (ValidationError, IndexError):
        raise UnavailableError(f"{transport.origin} sent no completion; check that it serves /completions") from None
    stated = choice.logprobs.token_logprobs if choice.logprobs else None
    known = [each for each in stated or () if each is not None and math.isfinite(each)]
    return Answer(text=choice.text, logprobs=known or None)


def _send(transport: Transport, model: str, prompt: str) -> bytes:
    return transport.read(
        transport.sdk.completions.with_streaming_response.create(
            model=model, prompt=prompt, max_tokens=TOKENS, temperature=0.0, seed=0, logprobs=1
        )
    )

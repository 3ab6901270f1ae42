"""How likely a server's model finds texts: the log-probabilities of a prompt's tokens, as the server reads them back.

Two ways are known, and which of them a server has is found out once: ``echo`` with ``logprobs`` of the completions API,
and vLLM's ``prompt_logprobs``. The server cuts the text into tokens, so where the scored part begins is told by the
texts of its tokens from the end back; where these do not tell, as with a letter of several tokens, the server is asked
for the part before it alone, and what both begin with in common is that part.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import openai
from pydantic import BaseModel, ValidationError

from cao.errors import InputError, UnavailableError
from cao.inference.scoring import BranchScore, QueryScore, common_prefix
from cao.progress import Progress, silent
from cao.types import Query
from policies.client.completions import CompletionClient
from policies.client.transport import FAILURES, Streamed, with_retries

PROBE = "Question: How much is 1 and 1?\nAnswer: 2"
NOT_KNOWN = (400, 422, 501)
"""Statuses by which servers refuse what they do not have."""
ROUNDING = 1e-3
"""Nats by which a log-probability may lie above 0."""
LEAST = -1e6
"""Nats below which no model's log-probability lies; sums of such numbers would not fit into a float."""


class Token(NamedTuple):
    """One token of a text: its own text, and its log-probability in nats, None where it has none."""

    text: str
    logprob: float | None


class _Logprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]


class _Entry(BaseModel):
    logprob: float
    decoded_token: str


class _Choice(BaseModel):
    index: int
    text: str
    logprobs: _Logprobs | None = None
    prompt_logprobs: list[dict[str, _Entry] | None] | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


def _echoed(choice: _Choice, text: str) -> list[Token] | None:
    """Return the tokens of an echoed text, without the one that was written behind it."""
    stated = choice.logprobs
    if stated is None or not choice.text.startswith(text) or len(stated.tokens) != len(stated.token_logprobs):
        return None
    tokens = list(map(Token, stated.tokens, stated.token_logprobs))
    # a text may end at once, and some servers list its end as a token and some do not
    unlisted = choice.text == text and bool(tokens and tokens[-1].text) and text.endswith(tokens[-1].text)
    return tokens if unlisted else tokens[:-1]


def _of_prompt(choice: _Choice, text: str) -> list[Token] | None:
    """Return the tokens of vLLM's ``prompt_logprobs``, where each place holds the text's own token alone."""
    if choice.prompt_logprobs is None or any(each is not None and len(each) != 1 for each in choice.prompt_logprobs):
        return None
    places = [list(each.values()) if each else [] for each in choice.prompt_logprobs]
    return [Token(mine[0].decoded_token, mine[0].logprob) if mine else Token("", None) for mine in places]


class _Way(NamedTuple):
    """One way in which servers read a text back."""

    echo: bool
    tokens: Callable[[_Choice, str], list[Token] | None]


_WAYS = (_Way(True, _echoed), _Way(False, _of_prompt))


class TextReader:
    """Has a server read texts back."""

    def __init__(self, client: CompletionClient) -> None:
        """Find out in which way the server reads a text back.

        Args:
            client: of the server.

        Raises:
            UnavailableError: it cannot be reached, or has none of the ways.
        """
        self._client = client
        self._way = self._find()

    def _find(self) -> _Way:
        transport = self._client.transport
        for way in _WAYS:
            try:
                body = with_retries(partial(self._probe, way))
            except FAILURES as error:
                if isinstance(error, openai.APIStatusError) and error.status_code in NOT_KNOWN:
                    continue
                raise transport.unavailable(error, self._client.settings.model) from None
            read = self._tokens(way, body, [PROBE])
            if read is not None and len(read[0]) > 1:
                return way
        raise UnavailableError(
            f"{transport.origin} returns no log-probabilities of a prompt (neither echo with logprobs nor vLLM's "
            "prompt_logprobs); use --protocol generate, or a server that has one of them"
        )

    def _probe(self, way: _Way) -> bytes:
        return self._client.transport.read(self._send(way, [PROBE]))

    def read(self, texts: Sequence[str], progress: Progress = silent) -> list[list[Token]]:
        """Return the tokens of each text.

        Args:
            texts: each of one character or more.
            progress: called after each batch.

        Raises:
            UnavailableError: the server cannot be reached, or sends something else.
        """

        def ask(batch: list[str]) -> list[list[Token]]:
            read = self._tokens(self._way, self._client.body(partial(self._send, self._way, batch)), batch)
            if read is None:
                raise self._client.incomplete(len(batch))
            return read

        return self._client.in_batches(texts, ask, "score", progress)

    def _send(self, way: _Way, batch: list[str]) -> AbstractContextManager[Streamed]:
        """Ask for one token, the fewest that every server writes."""
        create = self._client.transport.sdk.completions.with_streaming_response.create
        model, extra = self._client.settings.model, None if way.echo else {"prompt_logprobs": 0}
        if way.echo:
            return create(model=model, prompt=batch, max_tokens=1, temperature=0.0, seed=0, echo=True, logprobs=1)
        return create(model=model, prompt=batch, max_tokens=1, temperature=0.0, seed=0, extra_body=extra)

    def _tokens(self, way: _Way, body: bytes, batch: Sequence[str]) -> list[list[Token]] | None:
        """Return the tokens of each text of a batch, None where the reply does not hold them all."""
        try:
            choices = _Completion.model_validate_json(body).choices
        except ValidationError:
            return None
        of_text = {choice.index: choice for choice in choices}
        if len(choices) != len(batch) or set(of_text) != set(range(len(batch))):
            return None
        read = [way.tokens(of_text[i], text) or [] for i, text in enumerate(batch)]
        return read if all(tokens and all(map(_sound, tokens)) for tokens in read) else None


def _sound(token: Token) -> bool:
    return token.logprob is None or LEAST <= token.logprob <= ROUNDING


def spelled_from(tokens: Sequence[Token], text: str, scored: str) -> int | None:
    """Return the first token of the scored end of a text, None where the tokens do not tell.

    They do not spell it where each token of a letter of several has a text of its own; vLLM gives the whole letter to
    the last of them and no text to those before, which then may belong to the scored end.

    Args:
        tokens: of the text.
        text: which ends with ``scored``.
        scored: a token that begins before it and ends in it belongs to it.
    """
    end = ""
    for number in range(len(tokens) - 1, -1, -1):
        end = tokens[number].text + end
        if len(end) >= len(scored):
            before = tokens[number - 1] if number else None
            textless = before is not None and not before.text and before.logprob is not None
            return number if text.endswith(end) and not textless else None
    return None


def score_on_server(
    client: CompletionClient, queries: Sequence[Query], progress: Progress = silent
) -> list[QueryScore]:
    """Score every branch of every question by a server's model, as ``score_queries`` does by one that is loaded.

    Args:
        client: of the server.
        queries: Q questions.
        progress: called after each batch.

    Raises:
        InputError: an answer is empty.
        UnavailableError: the server cannot be reached, returns no log-probabilities of a prompt, or wrong ones.
    """
    asked = [(query.prefix + branch.lead, branch.scored) for query in queries for branch in query.branches]
    if empty := next((context for context, scored in asked if not scored), None):
        raise InputError(f"nothing to score behind {empty[-60:]!r}: every answer needs a text")
    reader = TextReader(client)
    wholes = list(dict.fromkeys(context + scored for context, scored in asked))
    read = dict(zip(wholes, reader.read(wholes, progress), strict=True))
    begins = {pair: spelled_from(read["".join(pair)], "".join(pair), pair[1]) for pair in asked}
    alone = list(dict.fromkeys(context for (context, _), begin in begins.items() if begin is None))
    before = dict(zip(alone, reader.read(alone), strict=True))
    scores = iter([_score(client, read[c + s], before.get(c), begins[c, s], s) for c, s in asked])
    return [QueryScore(tuple(next(scores) for _ in query.branches)) for query in queries]


def _score(
    client: CompletionClient, whole: Sequence[Token], context: Sequence[Token] | None, begin: int | None, scored: str
) -> BranchScore:
    if begin is None:
        begin = common_prefix([each.text for each in context or ()], [each.text for each in whole])
    logprobs = [token.logprob for token in whole[begin:]]
    known = [each for each in logprobs if each is not None]
    if not known or len(known) < len(logprobs):
        where = f"{client.transport.origin} gives no log-probability to a token of the answer {scored[:40]!r}"
        raise UnavailableError(f"{where}; use --protocol generate, or another server")
    return BranchScore(math.fsum(known), len(known), max(1, len(scored.strip())))

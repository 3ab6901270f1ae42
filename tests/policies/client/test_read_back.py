"""Choices scored by a server's model, a real one over HTTP, against the same model loaded here."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cao.errors import InputError, UnavailableError
from cao.inference.scoring import QueryScore, score_queries
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.types import Branch, Query
from policies.client.completions import CompletionClient, ServerSettings
from policies.client.read_back import Token, score_on_server, spelled_from
from tests.conftest import TINY
from tests.policies.client.model_server import ADAPTER, BASE, ModelServer, serving_model


def asked(prefix: str, *scored: str, lead: str = "") -> Query:
    return Query(prefix=prefix, branches=tuple(Branch(lead=lead, scored=each) for each in scored))


QUERIES = [
    asked("Question: Which of these can fly?\nAnswer:", " the bird", " it"),
    asked("Question: Who?\nAnswer:", "as", " to sleep", lead=" Tom"),
    asked("Options:\nA. yes\nB. no\nAnswer:", " A", " B"),
    asked("Wie heißt sie?\nAntwort:", " Zoë", " 日本", "é"),
]


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(TINY, path=str(folder), dtype="float32", offline=True)


def acting(lm: LanguageModel) -> LoraWeights:
    """Return an adapter that changes every layer."""
    generator = torch.Generator().manual_seed(1)
    weights = lm.fresh_lora(0)
    tensors = {
        name: 0.1 * torch.randn(tensor.shape, generator=generator) if ".lora_B." in name else tensor
        for name, tensor in weights.tensors.items()
    }
    return replace(weights, tensors=tensors)


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return loaded(tiny_model_folder)


@pytest.fixture(scope="module")
def running(tiny_model_folder: Path) -> Iterator[ModelServer]:
    served = loaded(tiny_model_folder)
    with serving_model(ModelServer(served, acting(served))) as server:
        yield server


@pytest.fixture
def server(running: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running.echo = running.prompt_logprobs = running.refuse = True
    running.whole_letters, running.silent, running.spoil, running.prompts = True, False, None, []
    return running


def scored(server: ModelServer, queries: list[Query] = QUERIES, model: str = BASE) -> list[QueryScore]:
    settings = ServerSettings(url=server.url, model=model, batch=3, concurrency=2, timeout_s=60)
    return score_on_server(CompletionClient(settings, offline=True), queries)


def check_equal(one: list[QueryScore], other: list[QueryScore]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        for a, b in zip(mine.branches, theirs.branches, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
            assert (a.tokens, a.chars) == (b.tokens, b.chars)


@pytest.mark.parametrize(("echo", "vllm"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("refuse", [True, False])
@pytest.mark.parametrize("whole_letters", [True, False])
def test_a_server_gives_the_scores_of_the_model_here(
    server: ModelServer, lm: LanguageModel, echo: bool, vllm: bool, refuse: bool, whole_letters: bool
) -> None:
    server.echo, server.prompt_logprobs, server.refuse, server.whole_letters = echo, vllm, refuse, whole_letters
    check_equal(scored(server), score_queries(lm, QUERIES))


def test_an_adapter_by_its_name_gives_its_own_scores(server: ModelServer, lm: LanguageModel) -> None:
    with lm.adapted(acting(lm)):
        with_it = score_queries(lm, QUERIES)
    check_equal(scored(server, model=ADAPTER), with_it)
    assert abs(with_it[0].branches[0].logprob - scored(server)[0].branches[0].logprob) > 0.1


def test_a_text_is_sent_once_and_a_context_only_where_its_tokens_do_not_tell(server: ModelServer) -> None:
    scored(server, [*QUERIES[:3], QUERIES[0]])
    assert len(server.prompts) == 1 + 6  # the probe, and each whole text
    server.prompts = []
    scored(server, QUERIES[3:])
    assert QUERIES[3].prefix in server.prompts


@pytest.mark.parametrize("listed", [True, False])
def test_a_text_that_ends_at_once_is_scored_alike(server: ModelServer, lm: LanguageModel, listed: bool) -> None:
    """Some servers list the token that ends a text, and show nothing of it; others do not list it."""

    def end(choice: dict[str, Any]) -> None:
        written = choice["logprobs"]["tokens"]
        choice["text"] = choice["text"][: len(choice["text"]) - len(written[-1])]
        if listed:
            written[-1] = "<|im_end|>"
        else:
            del written[-1], choice["logprobs"]["token_logprobs"][-1]

    server.spoil = end
    check_equal(scored(server, QUERIES[:3]), score_queries(lm, QUERIES[:3]))


def drop(choice: dict[str, Any]) -> None:
    choice["logprobs"] = None


@pytest.mark.parametrize("refuse", [True, False])
def test_a_server_without_log_probabilities_of_a_prompt_is_named(server: ModelServer, refuse: bool) -> None:
    server.echo, server.prompt_logprobs, server.refuse = False, False, refuse
    with pytest.raises(UnavailableError, match=r"returns no log-probabilities of a prompt .* use --protocol generate"):
        scored(server)


def test_an_unknown_name_is_no_missing_ability(server: ModelServer) -> None:
    with pytest.raises(UnavailableError, match="HTTP 404 for model 'nobody'"):
        scored(server, model="nobody")


def nothing(choice: dict[str, Any]) -> None:
    choice["logprobs"] = {"tokens": [], "token_logprobs": []}


def too_likely(choice: dict[str, Any]) -> None:
    choice["logprobs"]["token_logprobs"][-2] = 0.5


def not_a_number(choice: dict[str, Any]) -> None:
    choice["logprobs"]["token_logprobs"][-2] = math.nan


def beyond_a_float(choice: dict[str, Any]) -> None:
    choice["logprobs"]["token_logprobs"][1:] = [-1e308] * (len(choice["logprobs"]["token_logprobs"]) - 1)


def shorter(choice: dict[str, Any]) -> None:
    del choice["logprobs"]["tokens"][0]


def another_text(choice: dict[str, Any]) -> None:
    choice["text"] = "Welcome"


def numbered_alike(choice: dict[str, Any]) -> None:
    choice["index"] = 0


@pytest.mark.parametrize(
    "spoil", [nothing, too_likely, not_a_number, beyond_a_float, shorter, another_text, numbered_alike]
)
def test_what_a_server_makes_up_is_an_error_and_no_score(server: ModelServer, spoil: Any) -> None:
    server.spoil = lambda choice: spoil(choice) if "Question: Who" in choice["text"] else None
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+ sent no completion for each of \d prompts"):
        scored(server)


def test_an_answer_without_a_probability_is_an_error(server: ModelServer) -> None:
    def forget(choice: dict[str, Any]) -> None:
        choice["logprobs"]["token_logprobs"][-2] = None

    server.spoil = forget
    with pytest.raises(UnavailableError, match="no log-probability to a token of the answer"):
        scored(server)


def test_an_empty_answer_is_bad_input(server: ModelServer) -> None:
    with pytest.raises(InputError, match="every answer needs a text"):
        scored(server, [Query(prefix="Question", branches=(Branch(scored=""),))])


def test_tokens_tell_where_the_scored_part_begins() -> None:
    tokens = [Token("<s>", None), Token("ab", -1.0), Token("c d", -2.0), Token("e", -3.0)]
    assert spelled_from(tokens, "abc de", "de") == 2  # a token over the boundary belongs to the scored part
    assert spelled_from(tokens, "abc de", "e") == 3
    assert spelled_from(tokens, "xbc de", "bc de") is None
    assert spelled_from(tokens[2:], "abc de", "abc de") is None
    letter = [Token("a", None), Token("b", -1.0), Token("", -2.0), Token("é", -3.0)]
    assert spelled_from(letter, "abé", "é") is None  # the token without a text is a part of the letter
    assert spelled_from(letter, "abé", "bé") == 1
    assert spelled_from([Token("", None), Token("é", -3.0)], "aé", "é") == 1  # vLLM does not name a prompt's first

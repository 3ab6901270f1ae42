"""The policy behind a server: what it asks, tries again and takes, and its budget."""

import json
from typing import Any

import pytest

from cao.errors import UnavailableError
from cao.policy_settings import PolicySettings
from cao.strategy import parse_strategy
from cao.types import Trial
from policies.base import REPLIES
from policies.openai import OpenAIPolicy
from tests.policies.contexts import CONTEXT
from tests.policies.openai_policies import policy

GOOD = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'
WRAPPED = f'{{"strategy": {GOOD}}}'


def test_structured_output_is_asked_for_and_unwrapped(server: Any, http: Any) -> None:
    server.will(http.answer(http.completion(WRAPPED)))
    assert policy(server).propose(CONTEXT, 2, seed=7) == [GOOD, GOOD]
    first, second = server.requests
    assert (first["seed"], second["seed"]) == (7, 8)
    assert (first["temperature"], first["top_p"], first["max_tokens"]) == (1.0, 0.9, 128)
    schema = first["response_format"]["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert schema["required"] == ["strategy"]
    assert [f["properties"]["family"]["const"] for f in schema["properties"]["strategy"]["anyOf"]] == [
        "TTL",
        "Latent",
    ]
    for family in schema["properties"]["strategy"]["anyOf"]:  # a strict schema has no key that may be left out
        assert family["required"] == list(family["properties"])
        assert "default" not in json.dumps(family)
    assert "oneOf" not in json.dumps(schema)
    assert server.keys == ["no-key-needed"] * 2


def test_a_repeated_attempt_is_asked_for_again_twice_at_most(server: Any, http: Any) -> None:
    other = '{"family": "Latent", "slot_steps": 3, "slot_lr": 0.01}'
    failed = Trial(attempt=1, strategy=json.loads(GOOD), accepted=False, reason="not accepted")
    context = CONTEXT.model_copy(update={"history": (failed,)})
    server.will(http.answer(http.completion(WRAPPED)), http.answer(http.completion(f'{{"strategy": {other}}}')))
    asked = policy(server)
    assert asked.propose(context, 1, seed=7) == [other]
    assert [request["seed"] for request in server.requests] == [7, 8]
    assert asked.stats["repeated"] == 1
    server.will(http.answer(http.completion(WRAPPED)))
    assert policy(server).propose(context, 1, seed=7) == [GOOD]  # the run rejects it
    assert len(server.requests) == 2 + 3


def test_repeated_keys_inside_the_wrapping_still_meet_the_strict_parser(server: Any, http: Any) -> None:
    server.will(http.answer(http.completion('{"strategy": {"family": "LORA", "lambda": 0.1, "lambda": 0.9}}')))
    [raw] = policy(server).propose(CONTEXT, 1, seed=0)
    with pytest.raises(ValueError, match="more than once"):
        parse_strategy(raw)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_tried_again(server: Any, http: Any, status: int) -> None:
    server.will(http.answer(b"{}", status), http.answer(http.completion(WRAPPED)))
    assert policy(server).propose(CONTEXT, 1, seed=0) == [GOOD]
    assert len(server.requests) == 2


def test_lasting_trouble_ends_after_four_tries(server: Any, http: Any) -> None:
    server.will(http.answer(b"oops", 500))
    with pytest.raises(UnavailableError, match="HTTP 500"):
        policy(server).propose(CONTEXT, 1, seed=0)
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_by_status_is_not_tried_again(server: Any, http: Any, status: int) -> None:
    server.will(http.answer(b'{"error": {"message": "no"}}', status))
    with pytest.raises(UnavailableError, match=f"HTTP {status}"):
        policy(server).propose(CONTEXT, 1, seed=0)
    assert len(server.requests) == 1


def test_a_redirect_off_this_machine_is_not_followed(server: Any, http: Any) -> None:
    server.will(http.answer(b"", 307, location="https://example.org/v1/chat/completions"))
    with pytest.raises(UnavailableError, match="HTTP 307"):
        policy(server).propose(CONTEXT, 1, seed=0)


@pytest.mark.parametrize(
    "slow",
    [
        {"delay": 0.6},
        {"drip": 0.05},
        {"again": b"HTTP/1.1 100 Continue\r\n\r\n"},
        {"again": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
        {"opening": b"HTTP/1.1 200 ", "again": b"O"},
        {"opening": b"HTTP/1.1 200 OK\r\nX-Slow: ", "again": b"a"},
        {"opening": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", "again": b" "},
        {"opening": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "again": b"1\r\n \r\n"},
    ],
)
def test_a_reply_that_takes_its_time_runs_into_the_deadline(server: Any, http: Any, slow: dict[str, Any]) -> None:
    server.will(http.answer(http.completion("too late"), **slow), http.answer(http.completion(WRAPPED)))
    assert policy(server, timeout_s=0.3).propose(CONTEXT, 1, seed=0) == [GOOD]
    assert len(server.requests) == 2
    assert server.answers[0].sent < http.answer.TIMES  # the client left, it did not wait for the end


def test_a_server_that_never_answers_is_unavailable(server: Any, http: Any) -> None:
    server.will(http.answer(http.completion(WRAPPED), again=b"HTTP/1.1 100 Continue\r\n\r\n"))
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.1 s"):
        policy(server, timeout_s=0.1).propose(CONTEXT, 1, seed=0)
    assert len(server.requests) == 4


def test_the_body_of_an_error_is_not_read(server: Any, http: Any) -> None:
    """It may have no end: the client leaves when the server has sent little of it."""
    server.will(http.answer(opening=b"HTTP/1.1 404 Not Found\r\n\r\n", again=b"x" * 1_000_000))
    with pytest.raises(UnavailableError, match="HTTP 404"):
        policy(server, timeout_s=20).propose(CONTEXT, 1, seed=0)
    assert len(server.requests) == 1
    assert server.answers[0].sent < http.answer.TIMES


def test_a_connection_that_breaks_is_tried_again(server: Any, http: Any) -> None:
    server.will(http.answer(hang_up=True), http.answer(http.completion(WRAPPED)))
    assert policy(server).propose(CONTEXT, 1, seed=0) == [GOOD]


def test_nobody_listening_is_unavailable() -> None:
    lonely = OpenAIPolicy(PolicySettings(base_url="http://127.0.0.1:9/v1", timeout_s=1), offline=True)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        lonely.propose(CONTEXT, 1, seed=0)


@pytest.mark.parametrize(
    ("content", "options", "expected", "outcome"),
    [
        (GOOD[:20], {"finish": "length"}, GOOD[:20], "truncated"),
        (None, {"refusal": "I cannot"}, "", "refused"),
        (None, {}, "", "empty"),
        ("", {}, "", "empty"),
        ("pick LORA!", {}, "pick LORA!", "complete"),
        ("x" * 1_000_000, {}, "x" * 1_000_000, "complete"),
        ("\ud800", {}, None, "not_a_completion"),
        (["not", "text"], {}, None, "not_a_completion"),
    ],
)
def test_every_odd_reply_comes_back_as_text_that_the_graph_rejects(
    server: Any, http: Any, content: Any, options: dict[str, Any], expected: str | None, outcome: str
) -> None:
    server.will(http.answer(http.completion(content, **options)))
    asked = policy(server)
    [raw] = asked.propose(CONTEXT, 1, seed=0)
    assert expected is None or raw == expected
    assert asked.stats == {outcome: REPLIES}
    with pytest.raises(ValueError, match=r"not JSON|longer|family|expected"):
        parse_strategy(raw)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome to the hotel's network</html>",
        b"",
        b"null",
        b"[1, 2",
        b'{"choices": null}',
        b"\xff\xfe\x00",
        b"[" * 99_999,
    ],
)
def test_a_body_that_is_no_completion_is_a_rejected_proposal(server: Any, http: Any, body: bytes) -> None:
    server.will(http.answer(body, content_type="text/html"))
    asked = policy(server)
    [raw] = asked.propose(CONTEXT, 1, seed=0)
    assert raw == body.decode("utf-8", "replace")
    assert asked.stats == {"not_a_completion": REPLIES}
    with pytest.raises(ValueError, match=r"not JSON|longer|family|expected"):
        parse_strategy(raw)


def test_no_choices_is_an_empty_proposal(server: Any, http: Any) -> None:
    server.will(http.answer(b'{"choices": []}'))
    assert policy(server).propose(CONTEXT, 1, seed=0) == [""]


def test_an_endless_reply_is_read_up_to_a_limit(server: Any, http: Any) -> None:
    server.will(http.answer(b" " * 9_000_000))
    [raw] = policy(server).propose(CONTEXT, 1, seed=0)
    assert len(raw) < 4_200_000


def test_the_budget_of_requests_counts_retries(server: Any, http: Any) -> None:
    server.will(http.answer(b"{}", 500), http.answer(http.completion(WRAPPED)))
    asked = policy(server, max_requests=3)
    assert asked.propose(CONTEXT, 2, seed=0) == [GOOD, GOOD]
    with pytest.raises(UnavailableError, match="3 requests is spent; raise max_requests"):
        asked.propose(CONTEXT, 1, seed=0)
    assert len(server.requests) == 3


def test_the_budget_of_dollars_charges_what_the_server_counted(server: Any, http: Any) -> None:
    server.will(http.answer(http.completion(WRAPPED)))
    asked = policy(server, max_dollars=1.0)
    asked.propose(CONTEXT, 1, seed=0)
    assert asked.client.spent_dollars == pytest.approx(1000 * 0.15e-6 + 100 * 0.60e-6)
    with pytest.raises(UnavailableError, match="raise max_dollars"):
        policy(server, max_dollars=1e-6).propose(CONTEXT, 1, seed=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -(10**9), "completion_tokens": 0},
        {"prompt_tokens": 10**400, "completion_tokens": 0},
        {"prompt_tokens": "x"},
        [3],
    ],
)
def test_a_server_cannot_lie_its_way_under_the_budget(server: Any, http: Any, usage: Any) -> None:
    server.will(http.answer(http.completion(WRAPPED, usage=usage)))
    asked = policy(server)
    asked.propose(CONTEXT, 1, seed=0)
    assert asked.client.spent_dollars > 128 * 0.60e-6


def test_an_unknown_model_has_no_dollars_but_still_requests(server: Any, http: Any) -> None:
    server.will(http.answer(http.completion(WRAPPED)))
    asked = policy(server, openai_model="some-local-model", max_dollars=0, max_requests=1)
    assert asked.propose(CONTEXT, 1, seed=0) == [GOOD]
    with pytest.raises(UnavailableError, match="max_requests"):
        asked.propose(CONTEXT, 1, seed=0)

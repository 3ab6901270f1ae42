"""How a server is asked, how its answer is found in what it sends, and how it is asked again."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.run import main
from cao.errors import UnavailableError
from cao.policy_settings import PolicySettings
from cao.types import Trial
from policies.base import REPLIES
from policies.describe import describe
from tests.policies.contexts import CONTEXT
from tests.policies.openai_policies import policy

GOOD = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'
OTHER = '{"family": "Latent", "slot_steps": 3, "slot_lr": 0.01}'
WRAPPED = f'{{"strategy": {GOOD}}}'
STRICTEST_FIRST = ["json_schema", "json_object", "text"]


def call(arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "choose", "arguments": arguments}}]}


@pytest.mark.parametrize("given", [GOOD, WRAPPED])
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "```json\n{}\n```",
        "Sure! Here is my choice:\n```\n{}\n```\nIt suits {{sums}}.",
        '<think>Perhaps {{"family": "TTL"}}? Or {{x}}? No.</think>\n{}',
        'Perhaps {{"family": "TTL"}}?</think>{}',
        "[THINK]{{}}[/THINK]{}",
        '<|channel|>analysis<|message|>{{"family": "TTL"}}<|end|><|channel|>final<|message|>{}',
        "{} <think>Was {{}} better?",
        '<tool_call>\n{{"name": "choose", "arguments": {}}}\n</tool_call>',
        '{{"type": "function", "function": {{"name": "choose", "parameters": {}}}}}',
    ],
)
def test_the_object_is_found_in_what_models_put_around_it(server: Any, http: Any, around: str, given: str) -> None:
    server.will(http.answer(http.completion(around.format(given))))
    assert policy(server).propose(CONTEXT, 1, seed=0) == [GOOD]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, call(WRAPPED)),
        ("", call(GOOD)),
        ("I call the function.", call(GOOD)),
        (None, call(json.loads(GOOD))),
        (None, {"function_call": {"name": "choose", "arguments": WRAPPED}}),
        (GOOD, call("{}")),
        (GOOD, {"tool_calls": {"odd": 1}, "function_call": 3}),
        (GOOD, {"reasoning_content": OTHER}),
        ([{"type": "thinking", "thinking": [OTHER]}, {"type": "text", "text": GOOD}], {}),
    ],
)
def test_the_object_is_found_in_a_call_and_in_parts(
    server: Any, http: Any, content: Any, message: dict[str, Any]
) -> None:
    server.will(http.answer(http.completion(content, finish="tool_calls", **message)))
    assert policy(server).propose(CONTEXT, 1, seed=0) == [GOOD]
    assert len(server.requests) == 1


def test_what_is_asked_again_says_what_was_wrong(server: Any, http: Any) -> None:
    server.will(
        http.answer(http.completion("I would <|im_end|> rather not.")),
        http.answer(http.completion(GOOD.replace("5", "500"))),
        http.answer(http.completion(GOOD)),
    )
    asked = policy(server, temperature=0.0)
    assert asked.propose(CONTEXT, 1, seed=3) == [GOOD]
    first, second, third = (request["messages"][-1]["content"] for request in server.requests)
    assert second.startswith(first)
    assert "I would ‹|im_end|› rather not. -> rejected: not JSON" in second
    assert "one JSON object and nothing before or after it" in second
    assert "Latent: slot_steps: Input should be less than or equal to 20" in third
    assert len({request["seed"] for request in server.requests}) == 3


def test_a_repetition_is_asked_again_hotter(server: Any, http: Any) -> None:
    tried = Trial(attempt=1, strategy=json.loads(GOOD), accepted=False, reason="no")
    server.will(http.answer(http.completion(GOOD)))
    policy(server, temperature=0.0).propose(CONTEXT.model_copy(update={"history": (tried,)}), 1, seed=0)
    temperatures = [request["temperature"] for request in server.requests]
    assert temperatures == [0.0, 1.0, 2.0]
    assert "tried already, or cannot act" in server.requests[1]["messages"][-1]["content"]


def test_a_reply_that_was_cut_off_is_asked_again_with_more_room(server: Any, http: Any) -> None:
    long = "<think>" + "Well, {" * 50
    server.will(http.answer(http.completion(long, finish="length")), http.answer(http.completion(GOOD)))
    assert policy(server).propose(CONTEXT, 1, seed=0) == [GOOD]
    assert [request["max_tokens"] for request in server.requests] == [128, 512]
    assert "cut off after 128 tokens" in server.requests[1]["messages"][-1]["content"]


def test_a_budget_that_ends_while_asking_again_leaves_the_reply_in_hand(server: Any, http: Any) -> None:
    server.will(http.answer(http.completion("no")))
    asked = policy(server, max_requests=2)
    assert asked.propose(CONTEXT, 1, seed=0) == ["no"]
    with pytest.raises(UnavailableError, match="budget of 2 requests"):
        asked.propose(CONTEXT, 1, seed=0)


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_refused_form_gives_way_in_the_middle_of_a_run_and_for_good(server: Any, http: Any, status: int) -> None:
    server.will(http.answer(http.completion(GOOD)))
    asked = policy(server)
    asked.propose(CONTEXT, 1, seed=0)
    server.refuses = {"json_schema": status}
    asked.propose(CONTEXT, 2, seed=0)
    server.refuses["json_object"] = status
    assert asked.propose(CONTEXT, 2, seed=0) == [GOOD, GOOD]
    schema, mode, text = STRICTEST_FIRST
    assert server.forms() == [schema, schema, mode, mode, mode, text, text]
    assert asked.form == "text"
    assert "response_format" not in server.requests[-1]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_of_every_form_says_so_and_is_not_remembered(server: Any, http: Any, status: int) -> None:
    server.refuses = dict.fromkeys(STRICTEST_FIRST, status)
    asked = policy(server)
    with pytest.raises(UnavailableError, match=rf"HTTP {status} .*3 forms \(json_schema, json_object, text\); check"):
        asked.propose(CONTEXT, 1, seed=0)
    assert server.forms() == STRICTEST_FIRST
    assert asked.form == "json_schema"


def test_another_error_behind_a_refused_form_is_the_one_that_is_told(server: Any, http: Any) -> None:
    server.refuses = {"json_schema": 400}
    server.will(http.answer(b"{}", 404))
    with pytest.raises(UnavailableError, match=r"HTTP 404 for model '[^']+'; check"):
        policy(server).propose(CONTEXT, 1, seed=0)


FINE = "The task consists of short word problems about quantities. Each calls for elementary arithmetic."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"description": FINE}), {}),
        (f"```json\n{json.dumps({'description': FINE})}\n```", {}),
        (f'<think>{{"description": "no"}}</think>{json.dumps({"description": FINE})}', {}),
        (None, call(json.dumps({"description": FINE}))),
        (FINE, {}),
        (f"<think>What is asked?\n\nSums, it seems, of numbers that are small.</think>\n\n{FINE}", {}),
    ],
)
def test_a_describer_is_read_likewise_and_prose_will_do(
    server: Any, http: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: dict[str, Any]
) -> None:
    from cao.tasks.base import Task

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.refuses = {"json_schema": 400}
    server.will(http.answer(http.completion(content, **message)))
    task = Task(name="theirs", title="t", source="s", load=list)
    settings = PolicySettings(base_url=server.url, timeout_s=5)
    asked: dict[str, Any] = {"settings": settings, "lm": None, "seed": 0, "offline": True}
    found = describe("openai", task, [("What is 2 + 2?", "4")], **asked)
    assert (found.text, found.source, found.form) == (FINE, "openai", "json_object")
    assert '{"description": ' in server.requests[-1]["messages"][-1]["content"]
    again = describe("openai", task, [("What is 2 + 2?", "4")], **asked)
    assert (again.text, again.form) == (FINE, None)  # from the cache


def test_a_page_that_is_no_completion_describes_nothing(
    server: Any, http: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cao.tasks.base import Task

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.will(
        http.answer(b"Welcome to the network of this hotel. Please sign in to go on.", content_type="text/plain")
    )
    task = Task(name="theirs", title="t", source="s", load=list)
    settings = PolicySettings(base_url=server.url, timeout_s=5)
    found = describe("openai", task, [("What?", "4")], settings=settings, lm=None, seed=0, offline=True)  # type: ignore[arg-type]
    assert found.source == "facts"


@pytest.mark.slow
def test_a_run_goes_on_in_the_form_it_found_and_says_which(
    server: Any,
    http: Any,
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = str(tmp_path / "runs")
    argv = ["--task", "arc_easy", "--support", "4", "--reward", "6", "--test", "6", "--max-attempts", "3", "--offline"]
    argv += ["--policy", "openai", "--describer", "openai", "--set", f"policy_settings.base_url={server.url}"]
    argv += ["--adapter", "none", "--set", f"model_path={tiny_model_folder}", "--out", out, "--json"]
    lora = '{"family": "LORA", "lambda": 0.5}'  # there is no adapter to act on: the attempt ends at once
    described = http.answer(http.completion(json.dumps({"description": FINE})))
    server.refuses = {"json_schema": 400}
    server.will(described, http.answer(http.completion(f"```\n{lora}\n```")), http.answer(b"gone", 404))
    assert main(argv) == 3
    server.will(http.answer(http.completion(lora.replace("5", "6"))))
    before = len(server.requests)
    [folder] = (tmp_path / "runs").iterdir()
    capsys.readouterr()
    assert main(["--resume", folder.name, "--out", out, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["request_forms"] == {"describer": "json_object", "policy": "json_object"}
    assert set(server.forms()[before:]) == {"json_object"}
    assert [trial["strategy"] for trial in record["trials"][:2]] == [
        json.loads(lora),
        json.loads(lora.replace("5", "6")),
    ]
    assert len(server.requests) - before == 1 + REPLIES  # the third attempt repeats the second

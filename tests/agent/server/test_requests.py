"""OpenAI's own client against the server: completions, chats, streams, choices, and many at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.agent.server.running_site import Served

HELLO = [{"role": "user", "content": "what can the bird do?"}]


def test_base_and_whatever_is_current_are_listed(it: Served) -> None:
    assert [one.id for one in it.client.models.list()] == ["base", "auto"]


def test_a_completion_goes_on_from_each_prompt_greedily_at_temperature_0(it: Served) -> None:
    made = it.client.completions.create(
        model="base", prompt=["the bird can", "Tom"], max_tokens=6, temperature=0, n=2, logprobs=0
    )
    texts = [one.text for one in made.choices]
    assert [one.index for one in made.choices] == [0, 1, 2, 3]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert made.usage is not None
    assert made.usage.completion_tokens == 4 * 6
    logprobs = made.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.token_logprobs or []) == len(logprobs.tokens or []) == 6
    assert made.choices[0].finish_reason == "length"


def test_a_chat_is_answered_in_the_models_template_and_streams_the_same_text(it: Served) -> None:
    how = {"model": "auto", "messages": HELLO, "max_completion_tokens": 8, "temperature": 0}
    whole = it.client.chat.completions.create(**how)  # type: ignore[call-overload]
    parts = list(it.client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]
    assert whole.model == "base"
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-2].choices[0].finish_reason == "length"
    assert parts[-1].usage == whole.usage
    assert len({part.id for part in parts}) == 1


def test_a_stop_text_ends_an_answer(it: Served) -> None:
    how = {"model": "base", "prompt": "the bird can", "max_tokens": 12, "temperature": 0}
    whole = it.client.completions.create(**how).choices[0]  # type: ignore[call-overload]
    stopped = it.client.completions.create(**how, stop=[whole.text[3:5]]).choices[0]  # type: ignore[call-overload]
    assert stopped.text == whole.text.split(whole.text[3:5])[0]
    assert stopped.finish_reason == "stop"


def test_of_given_choices_one_is_ranked_first(it: Served) -> None:
    more = {"choices": ["Who", "the bird can fly"]}
    made = it.client.chat.completions.create(model="base", messages=HELLO, extra_body=more)  # type: ignore[arg-type]
    told = made.choices[0].model_extra["cao"]  # type: ignore[index]
    assert made.choices[0].message.content == more["choices"][told["choice"]]
    assert told["scores"][told["choice"]] == max(told["scores"])
    (part,) = it.client.chat.completions.create(model="base", messages=HELLO, extra_body=more, stream=True)  # type: ignore[arg-type]
    assert part.choices[0].delta.content == made.choices[0].message.content


def test_choices_are_ranked_with_the_turns_before_a_question(it: Served) -> None:
    turns = [{"role": "user", "content": "Tom has 3 apples."}, {"role": "assistant", "content": "So he has."}]
    more = {"model": "base", "choices": ["Who", "the bird can fly"]}
    _, alone, _ = it.post("/v1/chat/completions", messages=HELLO, **more)
    _, behind, _ = it.post("/v1/chat/completions", messages=[*turns, *HELLO], **more)
    context = "user: Tom has 3 apples.\nassistant: So he has."
    _, given, _ = it.post("/v1/completions", prompt=HELLO[0]["content"], context=context, **more)
    assert behind["choices"][0]["cao"] == given["choices"][0]["cao"] != alone["choices"][0]["cao"]


@pytest.mark.parametrize("how", [{"temperature": 1e-320}, {"temperature": 1e-40}, {"top_p": 1e-320}, {"top_p": 1e-46}])
def test_next_to_no_temperature_and_next_to_no_share_are_greedy(it: Served, how: dict[str, float]) -> None:
    asked = {"model": "base", "prompt": "the bird can", "max_tokens": 6}
    (greedy,) = it.post("/v1/completions", **asked, temperature=0)[1]["choices"]
    assert it.post("/v1/completions", **asked, **how)[1]["choices"] == [greedy]


def test_many_at_once_get_what_each_gets_alone(it: Served) -> None:
    prompts = [f"Tom has {n} apples and the bird can fly {'very ' * (n % 5)}" for n in range(24)]

    def ask(prompt: str) -> str:
        made = it.client.completions.create(model="base", prompt=prompt, max_tokens=4 + len(prompt) % 9, temperature=0)
        return made.choices[0].text

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, prompts))
    assert together == [ask(prompt) for prompt in prompts]


def test_who_goes_away_leaves_the_others_alone_and_no_work_behind(it: Served) -> None:
    stream = it.client.completions.create(model="base", prompt="Tom", max_tokens=64, stream=True)
    next(iter(stream))
    stream.close()
    assert it.client.completions.create(model="base", prompt="Tom", max_tokens=2).choices[0].finish_reason


def test_unknown_keys_are_passed_over_and_unsupported_ones_refused(it: Served) -> None:
    assert (
        it.post("/v1/completions", model="base", prompt="a", max_tokens=1, user="me", metadata={}, colour=1)[0] == 200
    )
    for key, value in {
        "best_of": 3, "echo": True, "suffix": "x", "logit_bias": {"5": 1}, "presence_penalty": 0.5, "n": 17,
        "response_format": {"type": "json_object"}, "stop": ["a"] * 5, "temperature": 3, "top_p": -1, "max_tokens": 0,
        "prompt": [], "choices": ["one"], "logprobs": 9, "stream": "yes", "seed": 2**70,
    }.items():  # fmt: skip
        status, told, _ = it.post("/v1/completions", **{"model": "base", "prompt": "a", key: value})
        assert (status, told["error"]["type"]) == (400, "invalid_request_error"), key
    tools = [{"type": "function", "function": {"name": "f"}}]
    for messages, more in (
        (HELLO, {"tools": tools}), ([], {}), ([{"role": "user", "content": " "}], {}), ("hi", {}),
        ([{"role": "tool", "content": "x"}], {}), (HELLO, {"logprobs": True, "top_logprobs": 5}),
        ([{"role": "user", "content": [{"type": "image_url"}]}], {}),
    ):  # fmt: skip
        assert it.post("/v1/chat/completions", model="base", messages=messages, **more)[0] == 400


def test_a_mistake_is_told_of_the_key_that_it_is_in(it: Served) -> None:
    for key, value, param in (("stop", ["", ""], "stop.0"), ("stop", 7, "stop"), ("prompt", [7], "prompt.0")):
        told = it.post("/v1/completions", **{"model": "base", "prompt": "a", key: value})[1]["error"]
        assert (told["param"], told["message"].partition(":")[0]) == (param, param)


def test_a_prompt_beyond_the_context_is_refused_and_a_budget_beyond_it_cut(it: Served) -> None:
    status, told, _ = it.post("/v1/completions", model="base", prompt="zq" * 3000)
    assert (status, told["error"]["code"]) == (400, "context_length_exceeded")
    status, told, _ = it.post("/v1/completions", model="base", prompt="a", choices=["yes", "zq" * 3000])  # ranked
    assert (status, told["error"]["code"]) == (400, "context_length_exceeded")
    made = it.client.completions.create(model="base", prompt="Tom", max_tokens=10**6)
    assert made.usage is not None
    assert made.usage.completion_tokens <= 64


def test_an_unknown_model_is_an_error_of_the_client(it: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4o'; served are base, auto"):
        it.client.completions.create(model="gpt-4o", prompt="hi")


def test_feedback_where_nothing_adapts_says_so(it: Served) -> None:
    status, told, _ = it.post("/v1/feedback", id="x", correct=True)
    assert (status, told["error"]["code"]) == (409, "no_feedback")


def test_metrics_count_requests_tokens_and_errors(it: Served) -> None:
    it.client.completions.create(model="base", prompt="Tom", max_tokens=2)
    it.send("/v1/completions", b"{")
    text = it.send("/metrics")[1]
    assert 'cao_requests_total{route="/v1/completions",status="200"}' in text
    assert 'cao_requests_total{route="/v1/completions",status="400"}' in text
    assert 'cao_tokens_total{kind="completion"}' in text
    assert 'cao_current_model{model="base"} 1.0' in text
    assert "cao_waiting 0.0" in text


def test_events_are_json_and_end_with_done(it: Served) -> None:
    body = json.dumps({"model": "base", "prompt": "Tom", "max_tokens": 3, "stream": True, "n": 2}).encode()
    text = it.send("/v1/completions", body)[1]
    events = text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert {json.loads(one.removeprefix("data: "))["choices"][0]["index"] for one in events[:-1]} == {0, 1}

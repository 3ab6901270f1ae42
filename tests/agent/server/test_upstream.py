"""Before another server, a real process: it forwards, loads what was adopted, and nothing that comes back harms it."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.record.reading import read_record
from agent.server.building import make_site
from agent.server.listening import Listener
from agent.server.metrics import Metrics
from agent.server.roster import Roster
from agent.server.roster import Served as ServedModel
from agent.server.upstream.adapters import Adapters
from agent.server.upstream.connection import connection
from agent.server.upstream.forwarding import Forwarder, Reading
from agent.server.upstream.wire import ForwardedChat, ForwardedCompletion
from cao.errors import CaoError, InputError, UnavailableError
from cao.model.adapters import LoraWeights, save_adapter
from cao.types import CONFIG_FILE
from tests.agent import run_folders
from tests.agent.server import other_server
from tests.agent.server.running_site import SECRET, Other, Served, another_server, in_front_of, serving


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    with another_server(tmp_path_factory.mktemp("other")) as running:
        yield running


@pytest.fixture
def it(other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with serving(in_front_of(other, tmp_path)) as site:
        yield site


def adopted(out: Path) -> Path:
    """The folder of a run that adopted one adapter."""
    run = run_folders.record("a-run")
    run["adopted"] |= {"adapter": {"path": "adapter", "sha256": "ab" * 32}, "strategy": None}
    folder = run_folders.write_run(out, "a-run", run)
    names = ("lora_A", "lora_B")
    tensors = {f"base_model.model.m.{name}.weight": torch.ones(2, 2) for name in names}
    made = save_adapter(out / "store", LoraWeights(2, 4, ("m",), tensors, "", {}), "x")
    Path(made.path).rename(folder / "adapter")
    return folder


def test_requests_go_on_by_the_name_that_is_known_there(it: Served, other: Other) -> None:
    whole = it.client.completions.create(model="base", prompt="hi", extra_body={"colour": 1})
    assert whole.choices[0].text == "hello"
    assert {"model": other_server.BASE, "prompt": "hi", "colour": 1}.items() <= other.asked()[-1].items()
    chat = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    assert it.client.chat.completions.create(**chat).choices[0].message.content == "hello"  # type: ignore[call-overload]
    parts = list(it.client.chat.completions.create(**chat, stream=True))  # type: ignore[call-overload]
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "hello"
    assert it.post("/v1/completions", model="their-model", prompt="hi")[0] == 404
    assert it.post("/v1/completions", model="base", prompt="hi", choices=["a", "b"])[0] == 400


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [("redirect", 502, "upstream_error"), ("busy", 429, "upstream_error"), ("html", 502, "upstream_error"),
     ("slow", 504, "upstream_timeout"), ("half", 502, "upstream_broken"), ("odd", 502, "upstream_broken")],
)  # fmt: skip
def test_what_goes_wrong_there_is_a_typed_error_without_the_key(
    it: Served, prompt: str, status: int, code: str
) -> None:
    found, told, headers = it.post("/v1/completions", model="base", prompt=prompt)
    assert (found, told["error"]["code"]) == (status, code)
    assert SECRET not in json.dumps(told)
    assert len(told["error"]["message"]) < 600
    assert headers.get("Retry-After", headers.get("retry-after")) == ("7" if prompt == "busy" else None)


def request_of(**body: Any) -> bytes:
    """A request as it goes over the wire."""
    sent = json.dumps({"model": "base", **body}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent


def test_an_answer_that_breaks_off_ends_and_the_server_goes_on(it: Served) -> None:
    raw = it.raw(request_of(prompt="half", stream=True), more=True)
    assert b"upstream_broke_off" in raw
    assert b'\n\ndata: {"error"' in raw  # the event is one of its own, whatever line broke off before it
    for _ in range(2):
        assert b"data: {}" in it.raw(request_of(prompt="strange", stream=True), more=True)  # its header is left out
    assert it.client.completions.create(model="base", prompt="hi").choices[0].text == "hello"


@pytest.mark.parametrize(
    ("prompt", "stream"), [("until you leave", False), ("until you leave", True), ("endless", True)]
)
def test_what_nobody_waits_for_any_more_is_left_there_too(
    other: Other, tmp_path: Path, prompt: str, stream: bool
) -> None:
    before = len(other.asked())
    with serving(in_front_of(other, tmp_path, timeout_s=600)) as it:
        with socket.create_connection(("127.0.0.1", it.port), timeout=30) as client:
            client.sendall(request_of(prompt=prompt, stream=stream))
            while not any(one.get("prompt") == prompt for one in other.asked()[before:]):
                time.sleep(0.02)
            if prompt == "endless":
                assert b"xxx" in client.recv(65_536)
        while not (left := [one["left"] for one in other.asked()[before:] if "left" in one]):
            time.sleep(0.02)
    assert left == [True]


def test_a_stream_without_an_end_is_ended_with_a_word(it: Served) -> None:
    raw = it.raw(request_of(prompt="endless", stream=True), more=True)
    assert 15_000_000 < len(raw) < 17_000_000
    assert b"the answer is too large" in raw[-500:]


def test_what_the_server_behind_may_know_is_forwarded_as_it_is(it: Served, other: Other) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    chat = {
        "model": "base",
        "tools": [tool],
        "n": 40,
        "presence_penalty": 1.5,
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "found"},
        ],
    }
    assert it.client.chat.completions.create(**chat).choices[0].message.content == "hello"  # type: ignore[call-overload]
    assert other.asked()[-1] == {"path": "/v1/chat/completions", **chat, "model": other_server.BASE}
    assert it.client.completions.create(model="base", prompt=[[5, 6], [7]]).choices[0].text == "hello"
    assert other.asked()[-1]["prompt"] == [[5, 6], [7]]
    for wrong in ({"model": 1, "prompt": "hi"}, {"model": "base"}, {"model": "base", "prompt": "hi", "stream": "yes"}):
        assert it.post("/v1/completions", **wrong)[0] == 400


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        ([{"role": "tool", "content": "x"}], ("", "")),
        ([{"content": "no role"}], ("", "")),
        ([{"role": "user", "content": 5}], ("", "")),
        ([{"role": "user", "content": [{"type": "image_url"}]}], ("", "")),
        ([{"role": "user", "content": "a?"}, {"role": "tool", "content": "b"}, {"role": "user", "content": "c?"}],
         ("c?", "user: a?\ntool: b")),
    ],
)  # fmt: skip
def test_of_a_forwarded_chat_what_is_said_in_words_is_watched(messages: Any, asked: tuple[str, str]) -> None:
    assert ForwardedChat.model_validate({"model": "m", "messages": messages}).asked == asked


@pytest.mark.parametrize(("prompt", "asked"), [("hi", "hi"), (["a", "b"], "a"), ([1, 2], ""), ([[1]], ""), ([], "")])
def test_of_forwarded_prompts_the_first_is_watched(prompt: Any, asked: str) -> None:
    assert ForwardedCompletion.model_validate({"model": "m", "prompt": prompt}).asked == (asked, "")


def test_what_was_adopted_is_loaded_there_once_and_served_by_its_route(other: Other, tmp_path: Path) -> None:
    folder = adopted(tmp_path)
    for _ in range(2):  # the second time it is there already
        with serving(in_front_of(other, tmp_path / "s", adopted=[f"mine={folder}"])) as it:
            assert it.client.completions.create(model="mine", prompt="hi").choices[0].text == "mine-a-run says hi"
            assert it.client.completions.create(model="auto", prompt="hi").choices[0].text == "hello"
    loads = [one for one in other.asked() if one["path"] == "/v1/load_lora_adapter"]
    assert [(one["lora_name"], one["lora_path"]) for one in loads] == [("mine-a-run", str(folder / "adapter"))]


def test_what_no_server_can_load_is_refused(other: Other, tmp_path: Path) -> None:
    run = run_folders.record("b-run")
    run["adopted"] |= {"adapter": None, "strategy": None}
    folder = run_folders.write_run(tmp_path, "b-run", run)
    with pytest.raises(InputError, match="adopted no single adapter"):
        make_site(in_front_of(other, tmp_path), [places(folder)], "")


def test_a_soft_prompt_is_refused_before_anything_is_sent(other: Other, tmp_path: Path) -> None:
    folder = adopted(tmp_path)
    (folder / "adapter" / CONFIG_FILE).write_text('{"peft_type": "PROMPT_TUNING"}')
    before = len(other.asked())
    with pytest.raises(InputError, match="soft prompt, and such a server loads LoRA alone"):
        make_site(in_front_of(other, tmp_path), [places(folder)], "")
    assert all(one["path"].endswith("/models") for one in other.asked()[before:])


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("gone", r"HTTP 404 \(Loading lora gone-a-run failed: No adapter found for <path> .*\); vLLM does this with"),
        ("nowhere", "answered load_lora_adapter with HTTP 404; vLLM does this with VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ],
)
def test_why_the_server_loads_nothing_is_told_without_the_key(
    other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, words: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    folder = adopted(tmp_path)
    record = read_record(folder)
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(UnavailableError, match=words) as told:
        Adapters(connection(in_front_of(other, tmp_path))).open(other_server.BASE, task, folder, record)
    assert SECRET not in str(told.value)


def places(folder: Path) -> Any:
    from agent.server.settings import Place

    return Place(name="mine", folder=folder)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"upstream": "http://127.0.0.1:9/v1"}, UnavailableError, "cannot be reached"),
        ({"upstream": "http://192.0.2.1/v1"}, UnavailableError, "is not on this machine"),
        ({"upstream_model": "gpt"}, InputError, "serves no 'gpt', but"),
    ],
)
def test_a_server_that_is_not_there_or_not_the_one_is_told(
    other: Other, tmp_path: Path, more: dict[str, Any], kind: type[CaoError], words: str
) -> None:
    given = in_front_of(other, tmp_path, **more)
    with pytest.raises(kind, match=words):
        Adapters(connection(given)).base(str(given.upstream_model))


def test_what_cannot_be_seen_to_act_is_unloaded(other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unseen(*_: object, **__: object) -> None:
        raise UnavailableError("no completion")

    monkeypatch.setattr("agent.server.upstream.adapters.on_server", unseen)
    folder = adopted(tmp_path)
    with pytest.raises(UnavailableError, match="no completion"):
        Adapters(connection(in_front_of(other, tmp_path))).open(
            other_server.BASE, "unseen", folder, read_record(folder)
        )
    last = other.asked()[-1]
    assert (last["path"], last["lora_name"]) == ("/v1/unload_lora_adapter", "unseen-a-run")


def test_another_machine_without_a_key_is_asked_for_what_it_loaded(
    other: Other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for place in ("agent.server.upstream.connection", "policies.client.transport"):
        monkeypatch.setattr(f"{place}.is_loopback", lambda url: False)
    folder, options = adopted(tmp_path), in_front_of(other, tmp_path, offline=False)
    it = Adapters(connection(options)).open(other_server.BASE, "keyless", folder, read_record(folder))
    assert it.there == "keyless-a-run"


def test_an_exported_folder_is_told_from_a_run(other: Other, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "cao.json").write_text("{}")
    with pytest.raises(InputError, match="was exported, and with --upstream runs are taken"):
        make_site(in_front_of(other, tmp_path), [places(tmp_path / "x")], "")


def test_feedback_on_a_stream_does_not_take_it_for_an_empty_answer(other: Other, tmp_path: Path) -> None:
    told: list[str] = []

    class Heard(Listener):
        def answered(self, key: str, text: str, choice: int | None) -> None:
            told.append(text)

    roster = Roster(ServedModel("base", there=other_server.BASE))
    forwarder = Forwarder(connection(in_front_of(other, tmp_path)), roster, Heard(roster), Metrics())
    for stream, sent in ((True, 'data: {"id": "a", "choices": [{"text": "x\u2028y"}]}\n\n'), (False, '{"id": "b"}')):
        request = ForwardedCompletion.model_validate({"model": "base", "prompt": ["hi"], "stream": stream})
        assert Reading(forwarder, request, roster.base).whole(sent.encode())
    assert told == []

"""The policy's key and address: neither is shown, and bad ones are refused."""

import base64
import json
import logging
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agent.run import main
from cao.errors import InputError, UnavailableError
from cao.policy_settings import PolicySettings
from policies.openai import OpenAIPolicy
from tests.policies.contexts import CONTEXT
from tests.policies.openai_policies import policy

KEY = "sk-secret-q7Rz1VbX9tLw"


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        KEY[: len(KEY) // 2],
        KEY[len(KEY) // 2 :],
        KEY[4:16],
        KEY.upper(),
        f"{KEY[:12]} {KEY[12:]}",
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(f"Bearer {KEY}".encode()).decode(),
        base64.urlsafe_b64encode(KEY[: len(KEY) // 2].encode()).decode(),
        quote(KEY[:12], safe=""),
        "".join(f"%{byte:02X}" for byte in KEY[:12].encode()),
        "".join(f"\\u{byte:04x}" for byte in KEY[:12].encode()),
    ],
)
def test_the_key_is_sent_and_no_part_of_it_is_shown(
    server: Any, http: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, echo: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    asked = policy(server)
    call = {"tool_calls": [{"function": {"arguments": json.dumps({"key": echo})}}]}
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {echo}"}}).encode()
    for body in (http.completion(f"your key: {echo}"), http.completion(None, **call), f"<b>{echo}".encode(), error):
        server.will(http.answer(body))
        [text] = asked.propose(CONTEXT, 1, seed=0)
        assert "[key]" in text
        assert echo[: len(echo) // 2] not in text
        assert echo[len(echo) // 2 :] not in text
    for status in (400, 401):
        server.will(http.answer(error, status))
        with pytest.raises(UnavailableError) as caught:
            asked.propose(CONTEXT, 1, seed=0)
        said = "".join(traceback.format_exception(caught.value)) + repr(asked) + repr(asked.client) + caplog.text
        assert echo not in said
    assert set(server.keys) == {KEY}


@pytest.mark.slow
def test_a_whole_run_keeps_the_key_out_of_all_that_it_writes(
    server: Any,
    http: Any,
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = ["--task", "arc_easy", "--support", "4", "--reward", "6", "--test", "6", "--max-attempts", "2", "--offline"]
    argv += ["--policy", "openai", "--describer", "openai", "--set", f"policy_settings.base_url={server.url}"]
    argv += ["--set", f"model_path={tiny_model_folder}", "--out", str(tmp_path / "runs")]
    half = KEY[: len(KEY) // 2]
    leaking = f'{{"strategy": {{"family": "Latent", "slot_steps": 2, "slot_lr": 0.1, "key": "{half}"}}}}'
    server.will(http.answer(http.completion(f"The questions ask for sums of small numbers. The key is {KEY}.")))
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {half}"}}).encode()
    server.will(*server.answers, http.answer(http.completion(leaking)), http.answer(echo))
    assert main(argv) == 0
    server.will(http.answer(echo, 401))
    assert main([*argv, "--seed", "1"]) == 3
    assert len(set(server.keys)) == 1
    assert server.keys[0] == KEY
    shown = capsys.readouterr()
    assert half not in shown.out + shown.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"trace.jsonl", "run.json", "checkpoints.sqlite", "report.html"} <= {path.name for path in written}
    assert not [path for path in written if half.encode() in path.read_bytes()]


@pytest.mark.parametrize("bad", ["sk-with\nnewline", "sk-schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(UnavailableError, match="export OPENAI_API_KEY") as caught:
        OpenAIPolicy(PolicySettings(), offline=False)
    assert bad not in "".join(traceback.format_exception(caught.value))


def test_without_a_key_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UnavailableError, match="run: export OPENAI_API_KEY=…"):
        OpenAIPolicy(PolicySettings(), offline=False)


@pytest.mark.parametrize(
    "url", [None, "https://example.org/v1", "http://127.0.0.1.example.org/v1", "http://10.0.0.1:1/v1"]
)
def test_offline_allows_loopback_only(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")  # must not decide anything
    with pytest.raises(UnavailableError, match="not on this machine"):
        OpenAIPolicy(PolicySettings(base_url=url), offline=True)


def test_an_address_with_a_password_in_it_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern"):  # settings are written to disk
        PolicySettings(base_url="http://user:password@127.0.0.1:1/v1")


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://127.0.0.1:1", "http://[::1]:1/v1"])
def test_offline_accepts_every_spelling_of_this_machine(url: str) -> None:
    assert OpenAIPolicy(PolicySettings(base_url=url), offline=True).name == "openai"


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:99999999/v1", "http://host:0/"])
def test_an_address_that_is_none_is_bad_input(url: str) -> None:
    with pytest.raises(InputError, match="base_url"):
        OpenAIPolicy(PolicySettings(base_url=url), offline=False)

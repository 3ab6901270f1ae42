"""The command: what it refuses, what it says, and that a signal ends it once everything is answered."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from agent.serve import main
from tests.agent.server.running_site import KEY

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["--port", "70000"], 2, "--port 70000"),
        (["--host", "no.such.host.invalid"], 2, "no such address"),
        (["--adopted", "base=runs/x"], 2, "'base' is taken"),
        (["--adopted", "a=x/y", "a=z/y"], 2, "'a' is taken"),
        (["--adopted", "nothing"], 2, "--adopted"),
        (["--adopted", "a=no-such-run", "--runs", "{}"], 2, "no run 'no-such-run'"),
        (["--upstream", "http://127.0.0.1:1/v1"], 2, "upstream needs upstream_model"),
        (["--upstream", "ftp://x"], 2, "--upstream"),
        (["--config", "{}/c.toml"], 2, "serve: write it as a table"),
        (["--set", "colour=1"], 2, "colour"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, reason: str
) -> None:
    (tmp_path / "c.toml").write_text("serve = 1\n")
    assert main([word.replace("{}", str(tmp_path)) for word in words]) == status
    told = capsys.readouterr()
    assert reason in told.err
    assert told.out == ""


def test_a_taken_port_and_a_key_that_is_none_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.server.web import bound

    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 3
    assert "give another --port" in capsys.readouterr().err
    monkeypatch.setenv("CAO_SERVE_KEY", "a b")
    assert main([]) == 2
    told = capsys.readouterr().err
    assert "CAO_SERVE_KEY is no key" in told
    assert "a b" not in told


def test_without_the_extra_it_is_told_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main([]) == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "serving needs the extra serve: uvicorn is not installed; run: " in line


def started(model: Path, folder: Path, *words: str, **more: str) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
    """Start the command; returns it with what it said once it served."""
    command = [sys.executable, "-m", "agent.serve", "--model", "qwen2.5-0.5b", "--set", f"model_path={model}", "--json"]
    command += ["--dtype", "float32", "--offline", "--port", "0", "--out", str(folder / "serve"), *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_ends_it_once_every_request_is_answered(
    tmp_path: Path, tiny_model_folder: Path, number: signal.Signals
) -> None:
    process, told = started(tiny_model_folder, tmp_path, CAO_SERVE_KEY=KEY)
    assert (told["models"], told["key"]) == (["base", "auto"], True)
    client = openai.OpenAI(base_url=told["url"], api_key=KEY, max_retries=0, timeout=120)
    begun, answers = threading.Barrier(5), list[str]()

    def ask() -> None:
        how = {"model": "auto", "prompt": "Tom", "max_tokens": 80, "temperature": 0, "stream": True}
        parts = iter(client.completions.create(**how))  # type: ignore[call-overload]
        first = next(parts)
        begun.wait()
        answers.append(first.choices[0].text + "".join(part.choices[0].text for part in parts))

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for one in asking:
        one.start()
    begun.wait()
    process.send_signal(number)
    for one in asking:
        one.join()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(set(answers)) == 1
    assert len(answers) == 4
    assert out == ""
    assert "every request was answered; ended" in err
    assert KEY not in err
    assert "Traceback" not in err

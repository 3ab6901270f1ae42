"""Whether an adapter acts: on a server that may serve the base model in its place, and here by PEFT."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.handover.comparison import Answer, compared
from agent.handover.served import on_server
from agent.verify import main
from cao.errors import InputError, UnavailableError

ADAPTER, SILENT, SUBTLE, NOISY = "adapter", "silent", "subtle", "noisy"


class Server(BaseHTTPRequestHandler):
    """Serves completions: a base model, an adapter, one that is silently the base model, and a noisy one."""

    asked = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, prompt = body["model"], body["prompt"]
        if model == "unknown":
            self.send_error(404)
            return
        Server.asked += 1
        text = f" {len(prompt)}" + (" adapted" if model == ADAPTER else f" {Server.asked}" if model == NOISY else "")
        shift = 0.01 if model == SUBTLE else 0.0
        logprobs = {"token_logprobs": [-0.5 - shift, None, -1.0]}
        answer = json.dumps({"choices": [{"index": 0, "text": text, "logprobs": logprobs}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()


@pytest.mark.parametrize(
    ("base", "adapter", "acts", "reason"),
    [
        ("base", ADAPTER, True, "it changed 2 of 2 answers"),
        ("base", SUBTLE, True, "it changed 2 of 2 answers"),
        ("base", SILENT, False, "the base model is what is served"),
        (NOISY, ADAPTER, False, "differ from one time to the next"),
    ],
)
def test_a_server_is_judged_by_what_it_writes(url: str, base: str, adapter: str, acts: bool, reason: str) -> None:
    verdict = on_server(url, base, adapter, ["one", "three"], offline=True)
    assert (verdict.acts, verdict.prompts) == (acts, 2)
    assert reason in verdict.reason


def test_names_that_tell_nothing_apart_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="are one name"):
        on_server(url, "base", "base", ["one"], offline=True)
    with pytest.raises(InputError, match="two names"):
        on_server(url, "base", None, ["one"], offline=True)
    with pytest.raises(UnavailableError, match="HTTP 404"):
        on_server(url, "unknown", ADAPTER, ["one"], offline=True)


def test_a_change_counts_only_above_the_noise() -> None:
    base, again = [Answer(text="a", logprobs=[-1.0])], [Answer(text="a", logprobs=[-1.01])]
    near, far = [Answer(text="a", logprobs=[-1.02])], [Answer(text="a", logprobs=[-1.05])]
    assert not compared("here", base, again, near).acts
    assert compared("here", base, again, far).acts
    assert compared("here", base, again, [Answer(text="b")]).acts


def test_without_log_probabilities_texts_decide() -> None:
    same = [Answer(text="a")]
    assert not compared("here", same, same, same).acts
    assert compared("here", same, same, [Answer(text="b")]).acts


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no adapter_config.json" in capsys.readouterr().err

"""A real run's calls of language models, here and on a server, from the call to the span."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.record.reading import read_run
from agent.record.trace_file import read_trace
from agent.telemetry.spans import NANO, spans_of
from cao.inference.calls import Call, heard, telling
from tests.agent.run.tiny_runs import LATENT, arguments, echo_rows, run, strategies, write_rows
from tests.policies.serving import serving

CALL = Call(operation="chat", provider="cao-llm", model="tiny", max_tokens=8, temperature=1.0, top_p=1.0)


class Server(BaseHTTPRequestHandler):
    """Refuses the strictest form of a request, and proposes in the next one."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": json.dumps({"strategy": LATENT})}
        body = {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 700, "completion_tokens": 31},
        }
        refused = asked.get("response_format", {}).get("type") == "json_schema"
        sent = b"{}" if refused else json.dumps(body).encode()
        self.send_response(400 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.slow
def test_calls_of_a_run_are_in_its_trace_and_its_spans(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_rows(tmp_path / "echoes.jsonl", echo_rows())
    more = ["--describer", "local", "--policy", "openai", "--max-attempts", "1"]
    with serving(Server) as url:
        more += ["--set", f"policy_settings.base_url={url}"]
        record = run(
            capsys, arguments(questions, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT), *more)
        )
    folder = tmp_path / "runs" / record["run_id"]
    read, events = read_run(folder), read_trace(folder)
    spans = {span.key: span for span in spans_of(read, events)}
    calls = [span for span in spans.values() if "gen_ai.operation.name" in span.attributes]
    assert [spans[call.parent or ""].name for call in calls] == ["describe", "decide", "decide"]
    assert [call.name for call in calls] == ["chat qwen2.5-0.5b", "chat gpt-4o-mini", "chat gpt-4o-mini"]
    own, refused, taken = (call.attributes for call in calls)
    assert own["gen_ai.provider.name"] == "cao-llm"
    assert int(own["gen_ai.usage.input_tokens"]) > 0
    assert 0 < int(own["gen_ai.usage.output_tokens"]) <= int(own["gen_ai.request.max_tokens"])
    assert (refused["error.type"], "gen_ai.usage.input_tokens" in refused) == ("BadRequestError", False)
    assert (taken["gen_ai.usage.input_tokens"], taken["gen_ai.usage.output_tokens"]) == (700, 31)
    assert taken["server.address"] == "127.0.0.1"
    for call in calls:  # times are written to the millisecond
        visit = spans[call.parent or ""]
        assert visit.start - NANO // 500 <= call.start <= (call.end or 0) <= (visit.end or 0) + NANO // 500
    ends = [event["seconds"] for event in events if event["event"] == "end"]
    assert [((s.end or 0) - s.start) / NANO for s in spans.values() if s.parent == "run"] == pytest.approx(ends)
    assert read.seconds == pytest.approx(sum(ends), rel=0.2)  # calls are not counted twice


def test_a_call_is_told_with_its_tokens_to_the_listener_inside_alone() -> None:
    told: list[Call] = []
    with telling(CALL) as usage:
        usage.add(3, 2)
    with heard(told.append), telling(CALL) as usage:
        usage.add(3, 2)
        usage.add(3, 4)
    assert [(call.input_tokens, call.output_tokens, call.error) for call in told] == [(6, 6, "")]


def test_a_call_that_fails_is_told_and_fails_as_it_did() -> None:
    told: list[Call] = []
    with pytest.raises(TimeoutError), heard(told.append), telling(CALL):
        raise TimeoutError
    assert [(call.input_tokens, call.error) for call in told] == [(None, "TimeoutError")]

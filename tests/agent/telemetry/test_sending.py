"""Spans as the SDK makes them, sent to a collector, to a file, and while a run is at work."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from agent import trace
from agent.record.reading import LOCK, read_run
from agent.record.trace_file import read_trace
from agent.telemetry.spans import span_id, spans_of, trace_id
from cao.errors import UnavailableError
from tests.agent import run_folders as made
from tests.policies.serving import serving

sdk = pytest.importorskip("opentelemetry.sdk.trace.export")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan  # noqa: E402
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: E402

from agent.telemetry import otel, sending  # noqa: E402

VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS")


class Kept(SpanExporter):
    """Keeps spans, but for the first ``refused`` batches."""

    def __init__(self, refused: int = 0) -> None:
        self.refused, self.spans = refused, list[ReadableSpan]()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.refused:
            self.refused -= 1
            return SpanExportResult.FAILURE
        self.spans += spans
        return SpanExportResult.SUCCESS


class Collector:
    """What an OTLP collector was sent; it answers with ``status``."""

    def __init__(self) -> None:
        self.status, self.url = 200, ""
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []

    def spans(self) -> list[Any]:
        requests = [request for *_, request in self.requests]
        return [s for r in requests for of in r.resource_spans for scope in of.scope_spans for s in scope.spans]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            found.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, request))
            self.send_response(found.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with serving(Handler) as address:
        found.url = address.removesuffix("/v1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
        yield found


def sender(exporter: SpanExporter) -> sending.Sending:
    return sending.Sending(exporter, "a test", lambda run: None, looks_s=0.02)


def call(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> tuple[int, str, str]:
    status = trace.main(["spans", *words, "--out", str(out)])
    return status, *capsys.readouterr()


def test_spans_have_the_records_names_parents_times_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    folder, kept = made.write_run(tmp_path, "a-run"), Kept()
    sender(kept).once(folder)
    wanted = {span_id("a-run", s.key): s for s in spans_of(read_run(folder), read_trace(folder))}
    assert {span.context.span_id for span in kept.spans} == set(wanted)
    for span in kept.spans:
        meant = wanted[span.context.span_id]
        assert span.context.trace_id == trace_id("a-run")
        assert (span.name, span.start_time, span.end_time) == (meant.name, meant.start, meant.end)
        assert dict(span.attributes or {}) == dict(meant.attributes)
        assert (span.parent.span_id if span.parent else None) == (meant.parent and span_id("a-run", meant.parent))
        assert span.resource.attributes["service.name"] == "cao-llm"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    [named, *_] = otel.finished("a-run", list(wanted.values()))
    assert named.resource.attributes["service.name"] == "mine"


def test_a_collector_gets_them_with_the_key_and_hostile_names_do_not_stop_them(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret-key")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # would lead a local address elsewhere
    made.write_run(tmp_path, "a-run")
    made.write_run(tmp_path, "b-run", made.hostile("b-run"))
    for run in ("a-run", "b-run"):
        status, out, err = call(capsys, tmp_path, run, "--json")
        assert status == 0, err
        assert json.loads(out) == {"run_id": run, "spans": 14, "to": collector.url}
        assert "secret-key" not in out + err
    assert len(collector.spans()) == 28
    assert {(path, headers["authorization"]) for path, headers, _ in collector.requests} == {
        ("/v1/traces", "secret-key")
    }


def test_a_collector_that_refuses_is_told_in_one_line_and_changes_nothing(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.status = 400
    folder = made.write_run(tmp_path, "a-run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    status, out, err = call(capsys, tmp_path, "a-run")
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert f"{collector.url} did not take the spans" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_is_followed_while_it_is_at_work_and_a_failing_exporter_is_tried_again(tmp_path: Path) -> None:
    folder, whole = made.write_unfinished(tmp_path, "a-run", 0), made.events(made.record("a-run"))
    kept = Kept(refused=2)
    follower = sender(kept)
    with FileLock(folder / LOCK):
        watching = threading.Thread(target=follower.follow, args=(folder,))
        watching.start()
        made.write_trace(folder, whole[:9])
        while len(kept.spans) < 4:
            time.sleep(0.01)
        assert {span.name for span in kept.spans} == {"describe", "detect", "generate", "align"}
        made.write_trace(folder, whole)
        (folder / "run.json").write_text(json.dumps(made.record("a-run")))
    watching.join()
    names = [span.name for span in kept.spans]
    assert names.count("run gsm8k") == 1
    assert len(names) == follower.count == len({span.context.span_id for span in kept.spans}) == 14


def test_without_a_run_those_that_begin_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write_run(tmp_path / "runs", "old-run")
    begun = [
        made.write_run(tmp_path, "bad-run", lines=[{"event": "none"}, {"event": "none"}]),
        made.write_run(tmp_path, "new-run"),
    ]
    kept, ended = Kept(), threading.Event()
    watching = threading.Thread(target=sender(kept).follow_all, args=(tmp_path / "runs", ended.is_set))
    watching.start()
    time.sleep(0.1)
    for folder in begun:
        folder.rename(tmp_path / "runs" / folder.name)
    while len(kept.spans) < 14:
        time.sleep(0.01)
    ended.set()
    watching.join()
    assert {span.context.trace_id for span in kept.spans} == {trace_id("new-run")}
    told = capsys.readouterr().err
    assert "bad-run is left out: " in told
    assert "new-run: improved, 14 spans sent" in told


def test_an_interrupted_run_is_followed_once_it_is_resumed(tmp_path: Path) -> None:
    folder, whole = made.write_unfinished(tmp_path, "a-run", 9), made.events(made.record("a-run"))
    kept, ended = Kept(), threading.Event()
    watching = threading.Thread(target=sender(kept).follow_all, args=(tmp_path, ended.is_set))
    watching.start()
    time.sleep(0.2)
    idle = len(kept.spans)
    with FileLock(folder / LOCK):
        time.sleep(0.1)
        made.write_trace(folder, whole)
        (folder / "run.json").write_text(json.dumps(made.record("a-run")))
    late = time.monotonic() + 20
    while len(kept.spans) < 14 and time.monotonic() < late:
        time.sleep(0.01)
    ended.set()
    watching.join()
    assert (idle, len(kept.spans)) == (0, 14)


def test_a_file_has_a_span_a_line_and_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write_run(tmp_path / "runs", "a-run")
    file = tmp_path / "spans.jsonl"
    assert call(capsys, tmp_path / "runs", "a-run", "--to", str(file))[0] == 0
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(told) == 14
    status, _, err = call(capsys, tmp_path / "runs", "a-run", "--to", str(file))
    assert (status, "there already" in err) == (2, True)
    assert len(file.read_text().splitlines()) == 14
    assert call(capsys, tmp_path / "runs", "a-run", "--to", str(tmp_path / "none/spans.jsonl"))[0] == 2
    assert call(capsys, tmp_path / "runs")[0] == 2  # neither a run nor --follow


def test_the_spans_of_an_offline_run_stay_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = made.record("a-run")
    record["config"]["offline"] = True
    made.write_run(tmp_path, "a-run", record)
    made.write_run(tmp_path, "b-run")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://someone:word@collector.example:4318/base")
    for more in ([], ["--dry-run"]):
        status, out, err = call(capsys, tmp_path, "a-run", *more)
        assert (status, out) == (3, "")
        assert "made with --offline, and https://collector.example:4318 is not on this machine" in err
    status, out, _ = call(capsys, tmp_path, "b-run", "--dry-run", "--json")
    plan = json.loads(out)
    assert (status, plan["spans"], plan["to"]) == (0, 14, "https://collector.example:4318")
    [leaving] = plan["leaves_this_machine"]
    assert (leaving["to"], leaving["why"]) == (plan["to"], "spans over OTLP")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")
    assert call(capsys, tmp_path, "b-run", "--dry-run")[0] == 2
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:7/spans")
    status, out, _ = call(capsys, tmp_path, "a-run", "--dry-run", "--json")
    assert (status, json.loads(out)["leaves_this_machine"]) == (0, [])


def test_a_missing_package_is_told_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    status, out, err = call(capsys, tmp_path, "no-such-run")
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert "python -m pip install -c constraints.txt -e '.[otel]'" in err


def test_what_is_never_taken_is_an_error_at_the_end(tmp_path: Path) -> None:
    folder, never = made.write_run(tmp_path, "a-run"), sender(Kept(refused=100))
    with pytest.raises(UnavailableError, match="a test did not take the spans"):
        never.follow(folder)
    assert never.count == 0
    assert os.listdir(tmp_path) == ["a-run"]

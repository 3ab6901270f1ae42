"""What a run's record says as spans, without any package of OpenTelemetry's."""

from pathlib import Path
from typing import Any

import pytest

from agent.record.reading import read_run
from agent.record.trace_file import Event, read_trace
from agent.telemetry.spans import NANO, Span, span_id, spans_of, trace_id
from cao.errors import InputError
from policies.client.address import origin
from tests.agent import run_folders as made

CALL = {
    "operation": "chat", "provider": "openai", "model": "gpt-4o-mini", "server": "https://api.openai.com:8443",
    "max_tokens": 128, "temperature": 1.0, "top_p": 0.9, "input_tokens": 700, "output_tokens": 31, "seconds": 1.25,
}  # fmt: skip


def lines(*rows: tuple[str, str, str, dict[str, Any]]) -> list[Event]:
    """A trace: second of the day, node, kind, and what else the event has."""
    return [{"time": f"2026-11-23T00:00:{s}Z", "node": node, "event": kind, **more} for s, node, kind, more in rows]  # type: ignore[typeddict-item]


def spans(out: Path, events: list[Event]) -> list[Span]:
    return spans_of(read_run(made.write_unfinished(out, "a-run", 0)), events)


def test_a_run_has_a_span_for_itself_and_one_for_each_visit_of_a_node(tmp_path: Path) -> None:
    folder = made.write_run(tmp_path, "a-run")
    run, events = read_run(folder), read_trace(folder)
    root, *visits = spans_of(run, events)
    ends = [event for event in events if event["event"] == "end"]
    assert (root.name, root.parent, root.attributes["cao.status"]) == ("run gsm8k", None, "improved")
    assert [span.name for span in visits] == [event["node"] for event in ends]
    assert [(span.end or 0) - span.start for span in visits] == [round(e["seconds"] * NANO) for e in ends]
    assert {span.parent for span in visits} == {root.key}
    assert root.start == visits[0].start
    assert root.end is not None
    assert root.end >= max(span.end or 0 for span in visits)
    tried = [span.attributes["cao.attempt"] for span in visits if "cao.accepted" in span.attributes]
    assert tried == [trial.attempt for trial in run.trials]


def test_where_a_users_file_lies_is_in_no_span(tmp_path: Path) -> None:
    folder = made.write_unfinished(tmp_path, "a-run", 3)
    run = read_run(folder).model_copy(update={"task": "/home/somebody/birds.csv"})
    root, *_ = spans_of(run, read_trace(folder))
    assert (root.name, root.attributes["cao.task"]) == ("run birds", "birds")


def test_no_text_of_a_policy_or_a_describer_is_in_a_span(tmp_path: Path) -> None:
    record = made.record("a-run")
    record["context"], record["trials"][0]["raw"] = "apples are counted", "pears are a strategy"
    record["trials"][0]["reason"] = "rejected: 'pears are a strategy' is none"
    folder = made.write_run(tmp_path, "a-run", record, made.events(record))
    told = repr(spans_of(read_run(folder), read_trace(folder)))
    assert "cao.attempt" in told
    assert "apples" not in told
    assert "pears" not in told


def test_a_call_is_a_child_of_its_visit_under_the_conventions_names(tmp_path: Path) -> None:
    told = lines(
        ("01.000", "decide", "start", {}),
        ("03.500", "decide", "call", {"data": CALL}),
        ("04.000", "decide", "call", {"data": {**CALL, "error": "TimeoutError", "input_tokens": None, "server": ""}}),
        ("05.000", "decide", "end", {"seconds": 4.0, "data": {}}),
    )
    _, visit, call, failed = spans(tmp_path, told)
    assert (call.parent, call.name, call.remote) == (visit.key, "chat gpt-4o-mini", True)
    assert (call.end or 0) - call.start == round(1.25 * NANO)
    assert call.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.max_tokens": 128,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.usage.input_tokens": 700,
        "gen_ai.usage.output_tokens": 31,
        "server.address": "api.openai.com",
        "server.port": 8443,
    }
    assert (failed.error, failed.attributes["error.type"], failed.remote) == ("TimeoutError", "TimeoutError", False)
    assert "gen_ai.usage.input_tokens" not in failed.attributes


def test_a_visit_that_a_kill_cut_off_ends_where_it_was_last_heard_of(tmp_path: Path) -> None:
    told = lines(
        ("01", "decide", "start", {}),
        ("03", "decide", "call", {"data": CALL}),
        ("50", "decide", "resume", {"data": {"at": "decide"}}),
        ("51", "decide", "start", {}),
    )
    root, cut, _, again = spans(tmp_path, told)
    assert (cut.error, ((cut.end or 0) - cut.start) / NANO) == ("interrupted", 2.0)
    assert (again.error, again.start, again.end) == ("interrupted", again.start, again.start)
    assert (root.error, root.start, root.end) == ("unfinished", cut.start, again.start)


def test_keys_that_only_the_graphs_state_has_are_passed_over(tmp_path: Path) -> None:
    adapters = {"generated": None, "aligned": None, "reason": "none", "only_in_the_state": 3}
    told = lines(
        ("01", "generate", "start", {}),
        ("02", "generate", "end", {"seconds": 1.0, "data": {"adapters": adapters, "rules": []}}),
    )
    _, visit = spans(tmp_path, told)
    assert (visit.name, (visit.end or 0) - visit.start) == ("generate", NANO)


def test_a_run_that_has_not_begun_has_no_span(tmp_path: Path) -> None:
    assert spans(tmp_path, []) == []


@pytest.mark.parametrize(
    "event",
    [
        ("decide", "start", {"time": "yesterday"}),
        ("decide", "start", {"time": 7}),
        ("decide", "call", {"data": {**CALL, "operation": "guess"}}),
        ("decide", "end", {"seconds": 1.0, "data": {"trial": 7}}),
    ],
)
def test_a_damaged_event_is_named(tmp_path: Path, event: tuple[str, str, dict[str, Any]]) -> None:
    told = lines(("01", "decide", "start", {}), ("02", *event))
    with pytest.raises(InputError, match="damaged, or of another version"):
        spans(tmp_path, told)


def test_ids_follow_from_the_run_and_differ() -> None:
    ids = {span_id(run, str(key)) for run in ("a-run", "b-run") for key in range(50)}
    assert len(ids) == 100
    assert trace_id("a-run") == trace_id("a-run") != trace_id("b-run")
    assert trace_id("a-run") < 2**128
    assert max(ids) < 2**64


@pytest.mark.parametrize(
    ("server", "host"),
    [(origin("http://[::1]:8000/v1"), "::1"), ("http://::1:8000", None), ("https://api.openai.com", "api.openai.com")],
)
def test_a_server_is_named_by_its_host_where_its_address_is_one(tmp_path: Path, server: str, host: str | None) -> None:
    events = lines(
        ("00", "decide", "start", {}),
        ("02", "decide", "call", {"data": CALL | {"server": server}}),
        ("03", "decide", "end", {"seconds": 3.0}),
    )
    (call,) = (span for span in spans(tmp_path, events) if "gen_ai.operation.name" in span.attributes)
    assert call.attributes.get("server.address") == host

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.record.page.questions import paired_change
from agent.record.page.report import write_report
from agent.record.reading import read_run
from agent.record.schema import RunRecord
from agent.record.trace_file import read_trace, visits
from cao.errors import InputError
from tests.agent import run_folders as made
from tests.tools.evaluate.answered import item, scaled
from tools.evaluate.items import save_items
from tools.evaluate.statistics import compare


def test_a_finished_run_reads_back(tmp_path: Path) -> None:
    run = read_run(made.write_run(tmp_path, "one"))
    assert (run.status, run.task, len(run.trials)) == ("improved", "gsm8k", 3)
    assert run.test is not None
    assert run.test.adapted.accuracy == 0.485
    assert run.trials[2].comparison is not None
    assert run.trials[2].comparison.loss_change == -0.0214


def test_a_run_of_an_older_version_is_read_where_it_can_be(tmp_path: Path) -> None:
    run = read_run(made.write_run(tmp_path, "old", made.older("old")))
    assert (run.schema_version, run.status, run.test) == (None, "improved", RunRecord(**made.record("x")).test)


def test_a_run_of_an_older_version_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    run = made.older("old")
    del run["trials"][1]["reward"]["loss"]
    path = made.write_run(tmp_path, "old", run)
    with pytest.raises(InputError, match=r"run\.json: .*trials\.1\.reward\.loss.*no schema_version.*do the run again"):
        read_run(path)


def test_a_trace_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = made.write_unfinished(tmp_path, "killed", keep=18)
    lines = read_trace(path)
    lines[3]["data"] = {"drift": {"p_value": 0.5}}
    made.write_trace(path, lines)
    with pytest.raises(InputError, match=r"trace\.jsonl: damaged; drift\.score: .*another version.*do the run again"):
        read_run(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 3}, r"run\.json: has schema_version 3, .* reads up to 2; read it with the version that"),
        ({"schema_version": 0}, r"run\.json: damaged; schema_version"),
        ({"unheard_of": 3}, r"run\.json: damaged; unheard_of"),
        ({"test": 3}, r"run\.json: damaged; test"),
    ],
)
def test_a_versioned_run_has_every_key_and_no_other(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = made.write_run(tmp_path, "one", {**made.record("one"), **change})
    with pytest.raises(InputError, match=message):
        read_run(path)


def test_what_is_read_is_written_again_as_it_was() -> None:
    written = RunRecord.model_validate(made.record("one")).model_dump(mode="json")
    assert RunRecord.model_validate(written).model_dump(mode="json") == written
    schema = RunRecord.model_json_schema(mode="serialization")
    assert list(written) == list(schema["properties"]) == schema["required"]


def test_the_contracts_own_keys_are_enough(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "old", {"status": "no_improvement"}, [])
    run = read_run(path)
    assert (run.run_id, run.status, run.trials, run.test) == ("old", "no_improvement", (), None)


def test_a_killed_run_is_put_together_from_configuration_and_trace(tmp_path: Path) -> None:
    run = read_run(made.write_unfinished(tmp_path, "killed", keep=19, cut='{"seq": 19, "node": "dec'))
    assert (run.status, run.last_node, run.task, run.model) == (
        "unfinished",
        "decide",
        "gsm8k",
        "smollm2-135m",
    )
    assert [trial.accepted for trial in run.trials] == [False, False]
    assert run.reward.baseline is not None
    assert run.reward.baseline.score == 0.4583
    assert run.timing_s["evaluate"] == pytest.approx(26.8)


def test_an_attempt_that_a_resumed_node_reports_again_counts_once(tmp_path: Path) -> None:
    path = made.write_unfinished(tmp_path, "killed", keep=18)
    lines = read_trace(path)
    made.write_trace(path, [*lines, {"seq": 18, "node": "evaluate", "event": "resume", "data": {}}, *lines[-2:]])
    assert len(read_run(path).trials) == 2


def test_the_cut_off_last_line_is_left_out(tmp_path: Path) -> None:
    path = made.write_unfinished(
        tmp_path,
        "killed",
        keep=3,
        cut='{"seq": 3, "node": "dé'[:-1] + "\udcc3".encode(errors="ignore").decode(),
    )
    assert [event["seq"] for event in read_trace(path)] == [0, 1, 2]


def test_any_cut_leaves_a_prefix_of_the_events(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "whole")
    events, raw = read_trace(path), (path / "trace.jsonl").read_bytes()
    for end in range(0, len(raw), 97):
        (path / "trace.jsonl").write_bytes(raw[:end])
        kept = read_trace(path)
        assert kept == events[: len(kept)]
        assert len(kept) in (raw[:end].count(b"\n"), raw[:end].count(b"\n") + 1)


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path: Path) -> None:
    path = made.write_unfinished(tmp_path, "one", keep=0)
    event = {"seq": 0, "node": "decide", "event": "end", "seconds": 1.0, "data": {"raw": "a\u2028b\x85c"}}
    made.write_trace(path, [event])
    assert read_trace(path) == [event]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    lines = (path / "trace.jsonl").read_text().split("\n")
    lines[4] = lines[4][:20]
    (path / "trace.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"trace\.jsonl:5: "):
        read_trace(path)


def test_visits_count_what_ended_and_what_is_under_way(tmp_path: Path) -> None:
    path = made.write_unfinished(tmp_path, "killed", keep=13)
    assert visits(read_trace(path)) == [
        "describe",
        "detect",
        "generate",
        "align",
        "choose",
        "decide",
        "decide",
    ]
    resumed = [*read_trace(path), {"node": "decide", "event": "resume"}, {"node": "decide", "event": "start"}]
    assert visits(resumed)[-2:] == ["decide", "decide"]  # begun twice, still one visit
    assert visits([]) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        "\x00\x01",
        "[" * 100_000,
        '{"status": "improved"',
        '{"seconds": NaN}',
        '{"seed": ' + "9" * 5000 + "}",
        '{"trials": {"a": 1}}',
        '{"test": {"baseline": 1}}',
        '{"reward": {"baseline": {"score": "high"}}}',
        '{"timing_s": {"apply": 1e999}}',
    ],
)
def test_a_corrupt_run_is_one_line_of_bad_input(tmp_path: Path, content: str) -> None:
    path = made.write_run(tmp_path, "one")
    (path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json: damaged") as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


def test_paired_change_by_hand(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    made.write_items(path, "base", [1.0, 2.0, 3.0, 4.0], [True, False, True, False])
    made.write_items(path, "attempt-1", [0.5, 2.0, 2.5, 4.0], [True, True, True, False])
    mean, low, high = paired_change(path, "base", "attempt-1", "loss") or (0, 0, 0)
    half = 1.959964 * (1 / 12) ** 0.5 / 2  # changes -½, 0, -½, 0: variance 1/12 over n - 1 = 3, and √4 = 2
    assert (mean, low, high) == pytest.approx((-0.25, -0.25 - half, -0.25 + half))
    assert (paired_change(path, "base", "attempt-1", "correct") or (0,))[0] == pytest.approx(0.25)


def test_a_scale_of_the_scores_is_no_change(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    (path / "items").mkdir(exist_ok=True)
    base = [item(f"q{i}", (-1.0 - i % 3, -2.0, -1.5), i % 2) for i in range(20)]
    save_items(path / "items" / "base.jsonl", base)
    save_items(path / "items" / "attempt-1.jsonl", scaled(base, 0.5))
    assert paired_change(path, "base", "attempt-1", "loss") == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_of_a_dropped_attempt_both_sides_are_its_questions_alone(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    (path / "items").mkdir(exist_ok=True)
    base = [item(f"q{i}", (1.0 + i % 3, 0.0), int(i % 5 == 0)) for i in range(40)]
    wrong = [item(f"q{i}", (1.0, 0.0), 1) for i in range(40, 80)]  # which ask for another temperature
    save_items(path / "items" / "base.jsonl", [*base, *wrong])
    changed = [item(f"q{i}", (2.0 - i % 3, 0.0), int(i % 5 == 0)) for i in range(40)]
    save_items(path / "items" / "attempt-1.jsonl", changed)
    found = paired_change(path, "base", "attempt-1", "loss")
    assert found is not None
    assert found[0] == pytest.approx(compare(base, changed, "confident").loss_change)


def test_damaged_items_give_no_interval(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    made.write_items(path, "base", [1.0, 2.0], [True, False])
    (path / "items" / "attempt-1.jsonl").write_text('{"id": "q0", "loss": NaN}\n')
    assert paired_change(path, "base", "attempt-1", "loss") is None
    assert paired_change(path, "base", "absent", "loss") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["score", "n", "strategy", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(key=st.sampled_from(sorted(RunRecord.model_fields)), value=JSON)
def test_any_value_under_any_key_reads_or_is_bad_input(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "one"
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text(json.dumps({**made.record("one"), key: value}))
    try:
        run = read_run(path)
    except InputError:
        return
    assert run.run_id == "one"
    assert write_report(path).stat().st_size > 10_000

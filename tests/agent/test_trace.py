import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent import trace
from agent.record.runs import list_runs
from agent.record.trace_verbs import view
from cao.encodings import visible
from tests.agent import run_folders as made

ROOT = Path(trace.__file__).parents[1]


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = trace.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys, agent.trace\n"
        "try: agent.trace.main(['show', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'langgraph', 'rich', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140, 160])
def test_a_list_on_any_terminal_cuts_no_name_and_leaves_columns_out_instead(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "commonsense_qa-20261123-204107-1f2a"
    made.write_run(tmp_path, name, {**made.record(name), "task": "commonsense_qa"})
    view.show_list(list_runs(tmp_path), tmp_path, datetime(2026, 11, 24, 0, 0, tzinfo=UTC))
    head, _, row, *told = (line for line in capsys.readouterr().out.split("\n") if line.strip())
    columns = head.split()
    every = ("policy", "model", "tries", "age", "reward", "task")
    gone = [name for name in every if name not in columns]
    assert told == ([f"not shown for want of width: {', '.join(gone)}"] if gone else [])
    assert "…" not in row
    assert len(row.rstrip()) <= max(width, 80)
    assert name in row
    assert ("improved" in row) == ("status" in columns)
    for column, cell in (("task", "commonsense_qa "), ("model", "smollm2-135m"), ("policy", "local")):
        assert (cell in row) == (column in columns)
    assert (len(columns) == 9) == (width >= 140)


@pytest.mark.parametrize("below", ["drift-1", "runs/drift-1"])
def test_folders_below_that_have_runs_are_named(below: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name = "drift-1-20261123-204107-1f2a"
    made.write_run(tmp_path / below, name, made.record(name))
    view.show_list([], tmp_path, datetime(2026, 11, 24, 0, 0, tzinfo=UTC))
    listed = f"python -m agent.trace list --out {tmp_path / below}"
    assert capsys.readouterr().out == f"no runs in {tmp_path}; folders below have some: {listed}\n"


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for i in range(30):
        made.write_run(tmp_path, f"run-{i}")
    command = [sys.executable, "-m", "agent.trace", "list", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_list_has_a_line_for_every_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a long temporary path must not push the columns together
    made.write_run(tmp_path, "gsm8k-20261123-204107-1f2a")
    made.write_unfinished(tmp_path, "killed", keep=13)
    (made.write_run(tmp_path, "bad") / "run.json").write_text("{")
    view.show_list(list_runs(tmp_path), tmp_path, datetime(2026, 11, 24, 0, 0, tzinfo=UTC))
    lines = capsys.readouterr().out.splitlines()
    finished = next(line for line in lines if "1f2a" in line)
    assert " ".join(finished.split()) == (
        "gsm8k-20261123-204107-1f2a gsm8k smollm2-135m local improved 3 45.8 → 49.0 % 45.5 → 48.5 % p = 0.26 3 h"
    )
    assert any("killed" in line and "unfinished (decide)" in line for line in lines)
    assert any("bad" in line and "damaged" in line for line in lines)


def test_show_tells_steps_attempts_drift_test_and_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made.write_run(tmp_path, "one")
    status, out, _ = call(capsys, "show", "one", "--out", tmp_path)
    flat = " ".join(out.split())
    assert status == 0
    for words in (
        "accepted",
        "not better",
        "no strategy",
        "+3.1",
        "−0.0214",
        "0.012",
        "13 conclude",
        "23.6 %",
        "38.6 – 52.4 %",
    ):
        assert words in flat
    assert "Drifted to something new: no known task explains" in flat


def test_show_marks_the_step_that_has_not_ended(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made.write_unfinished(tmp_path, "killed", keep=13, cut='{"seq": 13')
    _, out, _ = call(capsys, "show", "killed", "--out", tmp_path)
    assert "began and has not ended" in out
    assert f"--resume killed --out {tmp_path}" in out


def test_events_of_another_version_are_shown_without_their_meaning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [
        {"seq": 0, "node": node, "event": "end", "seconds": 1.5, "data": {"drift": 3, "trial": None}}
        for node in ("describe", "detect", "decide", "new")
    ]
    made.write_run(tmp_path, "one", lines=lines)
    status, out, _ = call(capsys, "show", "one", "--out", tmp_path)
    assert status == 0
    assert out.count("1.5 s") == 4


@pytest.mark.parametrize("verb", [["list"], ["show", "hostile"], ["diff", "hostile", "calm"]])
@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_text_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: list[str], as_json: bool
) -> None:
    run = made.hostile("hostile")
    events = made.events(made.record("x"))
    events[11]["data"]["trial"]["reason"] = made.HOSTILE
    made.write_run(tmp_path, "hostile", run, events)
    made.write_run(tmp_path, "calm")
    status, out, _ = call(capsys, *verb, "--out", tmp_path, *(["--json"] if as_json else []))
    assert status == 0
    assert not [char for char in out if char != "\n" and visible(char) != char]
    if as_json:
        json.loads(out)
    else:
        assert "<script>" in out
        assert "[bold" in out or verb == ["list"]  # markup is text; a list cuts it off


def test_json_of_show_is_the_run_and_its_events(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made.write_run(tmp_path, "one")
    _, out, _ = call(capsys, "show", "one", "--out", tmp_path, "--json")
    value = json.loads(out)
    assert (value["run_id"], value["status"], len(value["events"])) == ("one", "improved", 26)


def test_diff_shows_what_differs_and_only_that(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made.write_run(tmp_path, "one")
    other = made.record("two")
    other["config"] = other["config"] | {
        "seed": 7,
        "policy_settings": {"temperature": 0.5, "top_k": 50, "base_url": None},
    }
    other["trials"] = other["trials"][:2]
    made.write_run(tmp_path, "two", other)
    _, out, _ = call(capsys, "diff", "one", "two", "--out", tmp_path, "--json")
    found = json.loads(out)
    assert found["config"] == {"seed": [0, 7], "policy_settings.temperature": [1.0, 0.5]}
    assert found["versions"] == {}
    assert [row["same"] for row in found["trials"]] == [True, True, False]
    assert found["measures"]["test accuracy"] == ["45.5 → 48.5 %", "45.5 → 48.5 %"]
    _, text, _ = call(capsys, "diff", "one", "two", "--out", tmp_path)
    assert "policy_settings.temperature" in text
    assert "max_attempts" not in text
    made.write_unfinished(tmp_path, "three", 3)
    _, text, _ = call(capsys, "diff", "one", "three", "--out", tmp_path)
    assert "last digits" not in text  # what the other computes with is not known


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "nothing"], "the latest are one"),
        (["show", "../one"], "is no run id"),
        (["graph", "nothing"], "no run 'nothing'"),
        (["replay", "one", "--from", "nowhere"], "never came to 'nowhere'; it went through describe, detect"),
        (["html", "nothing"], "no run 'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str
) -> None:
    made.write_run(tmp_path, "one")
    status, out, err = call(capsys, *words, "--out", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_html_writes_the_report_and_prints_its_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    _, out, _ = call(capsys, "html", "on", "--out", tmp_path)
    assert out == f"{path / 'report.html'}\n"
    assert (path / "report.html").stat().st_size > 10_000
    _, out, _ = call(capsys, "html", "one", "--out", tmp_path, "--json")
    assert json.loads(out) == {"path": str(path / "report.html")}


@pytest.mark.integration
def test_graph_prints_mermaid_and_the_path_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made.write_run(tmp_path, "one")
    _, out, _ = call(capsys, "graph", "one", "--out", tmp_path)
    assert "decide" in out.split("%% path taken: ")[0]
    assert "choose → decide → decide → apply → evaluate → decide → apply → evaluate → conclude" in out
    _, out, _ = call(capsys, "graph", "one", "--out", tmp_path, "--json")
    assert json.loads(out)["visits"]["evaluate"] == 2


@pytest.mark.parametrize("value", [[1], {"a": 1}, "text", None, True, 1e300])
@pytest.mark.parametrize(
    "place",
    [
        *(("seconds",), ("time",), ("data",), ("data", "trial"), ("data", "trial", "attempt")),
        *(("data", "trial", "reward"), ("data", "baseline"), ("data", "baseline", "score"), ("data", "drift")),
        *(("data", "adapters"), ("data", "context", "text"), ("data", "test"), ("data", "proposal"), ("node",)),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_an_odd_value_in_a_trace_is_shown_or_named_and_hides_no_other_run(
    finished: bool, place: tuple[str, ...], value: object, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made.write_run(tmp_path, "good")
    path = made.write_run(tmp_path, "bad")
    lines = made.events(made.record("bad"))
    for line in lines:
        inner = line
        for key in place[:-1]:
            inner = inner.get(key) if isinstance(inner.get(key), dict) else {}  # type: ignore[assignment]
        if place[-1] in inner:
            inner[place[-1]] = value
    made.write_trace(path, lines)
    if not finished:
        (path / "run.json").unlink()
    status, out, _ = call(capsys, "list", "--out", tmp_path, "--json")
    assert status == 0
    assert sorted(run["run_id"] for run in json.loads(out)["runs"]) == ["bad", "good"]
    for words in (["show", "bad"], ["html", "bad"], ["diff", "bad", "good"]):
        status, _, err = call(capsys, *words, "--out", tmp_path)
        assert status in (0, 2), words
        assert err.count("\n") == (status == 2), err

"""What whole runs cost, and how ways of running are compared. No time is asserted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cao.machine.compute import processor_rates
from eval.bench import command, page, whole_run
from eval.bench.whole_run import Evaluations, RunCost

COST = RunCost(
    seconds=8.0,
    peak_memory_mb=1024,
    overhead_share=0.01,
    attempts=2,
    timing_s={"evaluate": 6.0, "decide": 2.0},
    wall_s=10.0,
    dtype="float32",
    evaluations=Evaluations(answered=30, asked=96),
)


def test_a_run_tells_where_its_time_goes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(whole_run, "help_seconds", lambda repetitions: [0.05] * repetitions)
    monkeypatch.setattr(whole_run, "one_run", lambda arguments, out, environment: COST)
    assert command.main(["run", "--json", "--", "--task", "piqa"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["command"] == "python -m agent.run --task piqa"
    assert result["repetitions"] == 1
    assert result["split"] == {"evaluate": 0.6, "decide": 0.2}
    assert result["start_up_share"] == 0.2
    assert command.main(["run"]) == 0
    printed = capsys.readouterr().out
    assert "evaluate 60 %, decide 20 %" in printed
    assert "python -m eval.bench run" in printed
    assert "30 answered of 96" in printed


def test_ways_of_running_are_compared_by_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[list[str], dict[str, str], int]] = []

    def one_run(arguments: list[str], out: Path, environment: tuple[tuple[str, str], ...]) -> RunCost:
        asked.append((list(arguments), dict(environment), len(busy)))
        wall = 30.0 if "bfloat16" in arguments else 20.0 if busy else 10.0
        return COST.model_copy(update={"wall_s": wall})

    busy: list[bool] = []

    @contextmanager
    def neighbour() -> Iterator[None]:
        busy.append(True)
        yield
        busy.pop()

    monkeypatch.setattr(whole_run, "help_seconds", lambda repetitions: [0.05])
    monkeypatch.setattr(whole_run, "one_run", one_run)
    monkeypatch.setattr(whole_run, "busy_neighbour", neighbour)
    arguments = ["run", "--repetitions", "2", "--compare", "bfloat16,busy,spinning", "--json", "--", "--task", "piqa"]
    assert command.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert {name: each["ratio"] for name, each in result["compared"].items()} == {
        "bfloat16": 3.0,
        "busy": 2.0,
        "spinning": 1.0,
    }
    plain = (["--task", "piqa"], {}, 0)
    forced, beside = (["--task", "piqa", "--dtype", "bfloat16"], {}, 0), (["--task", "piqa"], {}, 1)
    assert asked == 2 * [plain, forced, beside, (["--task", "piqa"], {"OMP_WAIT_POLICY": "active"}, 0)]
    assert command.main(["run", "--compare", "nothing"]) == 2


def test_a_neighbour_is_busy_for_as_long_as_the_block() -> None:
    with whole_run.busy_neighbour():
        (child,) = [one for one in psutil.Process().children() if "while True" in " ".join(one.cmdline())]
        assert child.is_running()
    assert not child.is_running()


def test_figures_are_written_into_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(whole_run, "help_seconds", lambda repetitions: [0.05])
    monkeypatch.setattr(whole_run, "one_run", lambda arguments, out, environment: COST)
    assert command.main(["run", "--write"]) == 2  # there is no page
    kind = f"bench:run:{processor_rates().faster}"
    page.PAGE.write_text(f"# Page\n<!-- {kind} -->\n<!-- /{kind} -->\n")
    assert command.main(["run", "--write"]) == 0
    assert "python -m eval.bench run\n" in page.PAGE.read_text()
    assert "--write" not in page.PAGE.read_text()

"""``python -m eval.tables`` on a tiny consolidation: what it writes, what it refuses, what it does not do twice."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import consolidate
from eval import tables
from eval.generation import cells
from eval.generation.pooled import POOL_KINDS
from tests.agent.train.generator.tiny_consolidation import FOLDER, command

pytestmark = pytest.mark.slow

MEASURED = ("--tasks", "openbookqa,social_iqa", "--limit", "6", "--reward", "48", "--seeds", "0,1")
FIGURES = ("tasks", "every", "far", "recovery", "retention", "missing", "cosines")
MADE = {"base", "generated", "no prompts", "centre", "union", "nearest", "generated+nearest", "wrong", "shuffled"}
MADE |= {*POOL_KINDS}
"""What every folder has, or is trained for the table."""


@dataclass
class Finished:
    """A tiny consolidation that was measured once."""

    folder: Path
    model: Path
    page: Path
    result: dict[str, Any]

    def call(self, *more: str) -> int:
        given = ("--table", "generation", "--consolidation", str(self.folder), "--set", f"model_path={self.model}")
        return tables.main([*given, "--offline", *MEASURED, *more])


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("measured")
    assert consolidate.main(command(tiny_model_folder, out)) == 0
    made = Finished(out / FOLDER, tiny_model_folder, out / FOLDER / "report" / "generation.md", {})
    assert made.call() == 0
    made.result = json.loads(made.page.with_suffix(".json").read_text())
    return made


def test_page_figures_and_pictures_are_written(finished: Finished) -> None:
    names = {path.name for path in finished.page.parent.iterdir()}
    assert names == {"generation.md", "generation.json", "generation-changes.svg", "generation-cosines.svg"}
    for name in ("generation-changes.svg", "generation-cosines.svg"):
        assert name in finished.page.read_text()
        assert ElementTree.parse(finished.page.parent / name).getroot().tag.endswith("svg")


def test_each_task_is_served_by_a_generator_that_never_saw_it(finished: Finished) -> None:
    tasks = finished.result["tasks"]
    assert {task: said["variant"] for task, said in tasks.items()} == {
        "openbookqa": "without-openbookqa",
        "social_iqa": "full",
    }
    seen = {"checkpoint", "generated+checkpoint", "own", "seen"}
    assert seen <= tasks["openbookqa"]["rows"].keys()
    assert not seen & tasks["social_iqa"]["rows"].keys()
    assert {near["source"] for near in tasks["openbookqa"]["near"]["nearest"].values()} == {"arc_easy"}
    assert all(0 < near["cosine"] < 1 for said in tasks.values() for near in said["near"]["nearest"].values())
    assert tasks["openbookqa"]["near"]["sharing"] == ["arc_easy"]
    assert all(task not in said["wrong"] for task, said in tasks.items())
    for said in tasks.values():
        counts = {name: len(hashes) for name, hashes in said["adapters"].items()}
        alone = ("base", "mean", "union", "checkpoint", "own", "no prompts", "centre")
        assert counts == {name: 1 if name in alone else 2 for name in counts}
        made = [hashes[0] for name, hashes in said["adapters"].items() if name not in ("nearest", "mean")]
        assert len(set(made)) == len(made)  # no two kinds are the same adapter by mistake


def test_the_page_says_what_the_figures_say(finished: Finished) -> None:
    page, result = finished.page.read_text(), finished.result
    for said in result["tasks"].values():
        for row in said["rows"].values():
            assert f"| {row['nll']:.4f} | " in page
            assert row["at_chance"] == 0 or f"{row['at_chance']} of {row['seeds']} | " in page
            assert all(rule in page for rule in row["rules"])
    assert f"**{result['cost']['time_ratio']:,.0f}** times cheaper in time" in page
    for kind, aims in result["every"]["aims"].items():
        assert {"base", "union", "nearest", "wrong"} < aims["against"].keys()
        for other, contrast in aims["against"].items():
            assert f"| {kind} − {other} | {100 * contrast['change']['accuracy']:+.1f} (" in page
    assert f"**{100 * result['retention']['accuracy']['mean']:+.1f}** points" in page
    low, high = sorted(near["cosine"] for near in result["tasks"]["openbookqa"]["near"]["nearest"].values())
    assert f"| arc_easy ({low:.2f}–{high:.2f}) | 1: arc_easy |" in page
    assert result["far"]["tasks"] == ["social_iqa"]
    assert "Where no source shares the subject (social_iqa):" in page
    assert result["format"] == 2
    assert result["command"].startswith("python -m eval.tables --table generation")
    assert "\n    python -m eval.tables --table generation" in page


def test_the_cost_adds_up(finished: Finished) -> None:
    cost = finished.result["cost"]
    for kind in ("seconds", "flops"):
        assert all(value > 0 for value in cost[kind].values())
    stages = [cost["flops"][stage] for stage in ("encode", "generate", "vector", "align")]
    assert sum(stages) == pytest.approx(cost["flops"]["all"])
    assert cost["flop_ratio"] == pytest.approx(cost["flops"]["training"] / cost["flops"]["all"])
    assert cost["steps"] == 8


def test_another_call_scores_nothing_and_says_the_same(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(cells, "evaluate", refuse)
    assert finished.call("--json", "--out", str(tmp_path)) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "generation.json").read_text())
    for key in FIGURES:
        assert result[key] == finished.result[key]
    for name in ("generation-changes.svg", "generation-cosines.svg"):
        assert (tmp_path / name).read_bytes() == (finished.page.parent / name).read_bytes()


def test_a_kill_between_cells_costs_the_cell_at_work(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, scored = cells.evaluate, list[str]()

    def interrupted(task: Any, *given: Any, **named: Any) -> Any:
        if len(scored) == 3:
            raise KeyboardInterrupt
        scored.append(task.name)
        return evaluate(task, *given, **named)

    monkeypatch.setattr(cells, "evaluate", interrupted)
    other = ("--limit", "5", "--tasks", "openbookqa", "--out", str(tmp_path))
    assert finished.call(*other) == 130
    assert not list(tmp_path.iterdir())
    kept = {path: path.read_bytes() for path in (finished.folder / "scores").rglob("test-5/openbookqa/*.jsonl")}
    assert len(kept) == 3
    monkeypatch.setattr(cells, "evaluate", evaluate)
    assert finished.call(*other) == 0
    assert all(path.read_bytes() == content for path, content in kept.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_workers_fill_the_same_cells(
    kind: str, finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    shutil.copytree(finished.folder, tmp_path / FOLDER, ignore=shutil.ignore_patterns("scores", "report"))
    config = tmp_path / "engine.toml"
    config.write_text(f"[engine]\nkind = '{kind}'\n")
    copy = Finished(tmp_path / FOLDER, finished.model, finished.page, {})
    assert copy.call("--json", "--workers", "2", "--config", str(config)) == 0
    result = json.loads(capsys.readouterr().out)
    for key in FIGURES:
        assert result[key] == finished.result[key]
    for path in (finished.folder / "scores").rglob("test-6/*/*.json*"):
        assert (copy.folder / path.relative_to(finished.folder)).read_bytes() == path.read_bytes()
    (known,) = (path.relative_to(copy.folder) for path in copy.folder.glob(f"scores/cpu-{result['dtype']}-*/*.json"))
    assert json.loads((copy.folder / known).read_text()) == json.loads((finished.folder / known).read_text())


def test_an_engine_that_does_not_answer_is_exit_3(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    config = tmp_path / "engine.toml"
    config.write_text("[engine]\nkind = 'ray'\naddress = '127.0.0.1:9'\n")
    assert finished.call("--config", str(config)) == 3
    assert "error: no Ray cluster answers at 127.0.0.1:9;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--tasks", "openbookqa,nothing"], 2, "no task is called 'nothing'"),
        (["--tasks", "arc_easy"], 2, "arc_easy was a source of every generator"),
        (["--consolidation", "nowhere"], 2, "no consolidation's folder"),
        (["--device", "tpu"], 2, "unknown device 'tpu'"),
        (["--set", "rank=2"], 2, "--set rank: unknown key"),
        (["--set", "model_path=nowhere"], 3, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    more: list[str], status: int, said: str, finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finished.call(*more) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert said in captured.err


def test_a_page_that_cannot_be_written_is_named(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert finished.call("--out", str(tmp_path / "file")) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_unfinished_consolidation_names_the_command_that_finishes_it(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished.folder / "variants" / "without-openbookqa" / "generator.safetensors"
    away = path.rename(path.with_suffix(".away"))
    try:
        assert finished.call() == 3
        told = capsys.readouterr().err
        assert "variants/without-openbookqa/generator is missing" in told
        assert "python -m agent.consolidate --model qwen2.5-0.5b --preset embedded" in told
    finally:
        away.rename(path)


def like_wide(finished: Finished, place: Path, *left_out: str) -> Finished:
    """A copy with two folds and a generator of few sources; no checkpoint and no union is there.

    The copy's generators are those of the original under other names.
    """
    folder = place / FOLDER
    left = shutil.ignore_patterns("scores", "report", "unions", "checkpoints", *left_out)
    shutil.copytree(finished.folder, folder, ignore=left)
    without = folder / "variants" / "without-openbookqa"
    (without / "aligner.safetensors").unlink(missing_ok=True)
    shutil.copytree(without, folder / "variants" / "paper")
    without.rename(folder / "variants" / "fold-2")
    config = json.loads((folder / "config.json").read_text())
    config["preset"] |= {"leave_out": [], "folds": 2, "extra": {"paper": ["openbookqa"]}}
    (folder / "config.json").write_text(json.dumps(config))
    return Finished(folder, finished.model, folder / "report" / "generation.md", {})


def test_folds_serve_their_own_sources_and_what_is_nearest_is_trained(finished: Finished, tmp_path: Path) -> None:
    wide = like_wide(finished, tmp_path)
    assert wide.call() == 0
    page, result = wide.page.read_text(), json.loads(wide.page.with_suffix(".json").read_text())
    seen, unseen = (result["tasks"][task] for task in ("openbookqa", "social_iqa"))
    assert (seen["variant"], unseen["variant"]) == ("fold-2", "full")
    own = {"checkpoint", "generated+checkpoint", "own", "seen"}
    assert seen["rows"].keys() == MADE | own | {"mean"}
    assert unseen["rows"].keys() == MADE | {"mean", "aligned", "misaligned", "fused", "paper"}
    assert unseen["paper"]["nearest"]["0"]["source"] == "openbookqa"
    assert {near["source"] for near in seen["near"]["nearest"].values()} == {"arc_easy"}
    aims = result["every"]["aims"]
    assert aims["generated"]["against"]["base"]["tasks"] == 2
    assert aims["aligned"]["against"]["generated"]["tasks"] == 1
    assert "Some tasks have no row **aligned**: `fold-2` has no aligner." in page
    assert "Some tasks have no row **misaligned**: `fold-2` has no aligner." in page
    alike = [*(wide.folder / "checkpoints").glob("*-average*"), wide.folder / "unions" / "full-average.safetensors"]
    for path in alike:  # as the consolidation would have trained it
        assert path.read_bytes() == (finished.folder / path.relative_to(wide.folder)).read_bytes()
    assert {path.name for path in (wide.folder / "unions").glob("*-average*")} == {
        "full-average.safetensors",
        "fold-2-average.safetensors",
        "only-openbookqa-average.safetensors",
    }
    assert (wide.folder / "checkpoints" / "openbookqa-average.safetensors").exists()


def test_a_folder_without_an_aligner_is_judged_as_it_is(finished: Finished, tmp_path: Path) -> None:
    lacking = like_wide(finished, tmp_path, "aligner*")
    assert lacking.call("--tasks", "social_iqa", "--seeds", "0") == 0
    result = json.loads(lacking.page.with_suffix(".json").read_text())
    assert result["tasks"]["social_iqa"]["rows"].keys() == MADE | {"mean", "fused", "paper"}
    assert result["missing"].keys() == {"aligned", "misaligned"}
    assert list(result["every"]["aims"]) == ["generated"]
    assert result["aligner_target"] is result["retention"] is None
    assert result["cost"]["vector_prompts"] == 0
    assert "vector" not in result["cost"]["flops"]


def test_a_plan_that_there_is_not_is_refused_and_nothing_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--table", "generation", "--consolidation", "x", "--dry-run"]) == 2
    assert "--dry-run: --table generation has no plan (2, 5, 6, all have one)" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--seeds", "0,0"], ["--table", "other"]])
def test_options_that_cannot_be_are_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        tables.main(["--table", "generation", "--consolidation", "x", *given])
    assert ended.value.code == 2


@pytest.mark.parametrize("given", [["--seeds", "a"], ["--limit", "0"]])
def test_values_that_cannot_be_are_named(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--table", "generation", "--consolidation", "x", *given]) == 2
    assert given[0] in capsys.readouterr().err

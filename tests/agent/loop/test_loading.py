"""What is loaded for a run, and what is said of it once the run's sizes were cut."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.config import make_config
from agent.loop import loading
from agent.loop.loading import build_workbench, fitted
from agent.loop.request import read_task
from agent.loop.trained import Trained
from agent.record.terminal import PlainView
from tools.pretrained import Artefact, Index, Shelf, Variant
from tools.source_questions import FILE, write_questions


def test_questions_that_a_time_budget_cut_are_not_counted_as_seen(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"Which number is {n}?", "choices": [str(n), "none"], "answer": 0} for n in range(60)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"task": str(tmp_path / "numbers.jsonl"), "policy": "random", "offline": True, "adapter": "none"}
    sizes = {"support": 4, "reward": 6, "test": 8, "dtype": "float32", "minutes": 9.0}
    config = make_config(None, {**options, **sizes}, [f"model_path={tiny_model_folder}"])
    bench = build_workbench(config, *read_task(config), PlainView())

    everything = [example.prompt for example in bench.task.load()]
    sha256 = write_questions(tmp_path / FILE, {"numbers": everything})
    full = Variant(name="full", sources=("numbers",), generator=Artefact(path="none", sha256="0"))
    shelf = Shelf(name="m", variants=(full,), questions=Artefact(path=FILE, sha256=sha256))
    (tmp_path / "index.json").write_text(Index(format=1, models={bench.lm.sha256: shelf}).model_dump_json())

    config = config.model_copy(update={"pretrained": str(tmp_path)})
    smaller = SimpleNamespace(config=config.model_copy(update={"reward": 3, "test": 5}), sentence=lambda: "")
    monkeypatch.setattr(loading, "timed_speed", lambda speed, *_: speed)
    monkeypatch.setattr(loading, "fit", lambda *_: smaller)
    bench = replace(bench, config=config, trained=Trained(variant="full", saw_questions=4 + 6 + 8))
    assert fitted(bench, PlainView()).trained.saw_questions == 4 + 3 + 5

"""What is loaded for a run, and what is said of it once the run's sizes were cut."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config import make_config
from agent.loop import loading
from agent.loop.loading import build_workbench, fitted, refuse_other_weights, trained_hashes
from agent.loop.request import read_task
from agent.loop.trained import Trained
from agent.record.terminal import PlainView
from cao.errors import InputError
from cao.policy_settings import PolicySettings
from policies.selection.portfolio import PortfolioPolicy
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


def started(pretrained: Path, parts: dict[str, str]) -> tuple[Any, Any]:
    """A run's header, and its workbench as it goes on: one with a policy that reads what was learnt."""
    config = SimpleNamespace(
        policy="portfolio", policy_settings=PolicySettings(), pretrained=str(pretrained), model="m"
    )
    lm = SimpleNamespace(sha256="base", profile=SimpleNamespace(name="m"))
    bench = SimpleNamespace(config=config, lm=lm, trained=Trained(variant="none"), policy=PortfolioPolicy([{}]))
    return SimpleNamespace(run_id="r", model_sha256="base", pretrained=parts), bench


def test_a_run_does_not_go_on_with_another_selection(tmp_path: Path) -> None:
    path = tmp_path / "m" / "selection.json"
    path.parent.mkdir()
    path.write_text("first")
    _, bench = started(tmp_path, {})
    parts = trained_hashes(bench)
    refuse_other_weights(*started(tmp_path, parts))
    path.write_text("second")
    with pytest.raises(InputError, match="was started with selection"):
        refuse_other_weights(*started(tmp_path, parts))
    refuse_other_weights(*started(tmp_path, {}))  # of a version that did not say


def test_a_policys_own_model_counts_by_its_weights() -> None:
    _, bench = started(Path("nowhere"), {})
    bench.config.policy, bench.policy = "local", SimpleNamespace(name="local", model_sha256="other")
    assert trained_hashes(bench) == {"policy model": "other"}
    bench.policy.model_sha256 = "base"  # the run's own
    assert trained_hashes(bench) == {}


def test_a_start_adapter_counts_by_its_content(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"first")
    config = make_config(None, {"task": "arc_easy"}, [f"start_adapter={adapter}"])
    before = config.fingerprint()
    assert config.fingerprint() == before
    (adapter / "README.md").write_text("words")
    assert config.fingerprint() == before
    (adapter / "adapter_model.safetensors").write_bytes(b"second")
    assert config.fingerprint() != before

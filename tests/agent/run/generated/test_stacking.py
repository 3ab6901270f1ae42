"""Runs that go on from what was accepted: strategies that stack, steps that add up, and what cannot be combined."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.loop import nodes
from agent.run import main
from policies.base import PolicyContext
from policies.fixed import FixedPolicy
from tests.agent.run.generated.generated_runs import LATENT, TTL, command
from tests.agent.run.tiny_runs import TTS, result, run
from tools.evaluate import load_items
from tools.evaluate.statistics import compare

CALIBRATE = {"family": "Calibrate", "prior": "batch", "strength": 1.0, "length": "none"}
OTHER_TTS = {"family": "TTS", "num_prompt_batches": 3, "method": "sum_logprobs"}
PLAN = [CALIBRATE, TTS, TTL, OTHER_TTS, CALIBRATE, LATENT]
BUDGET = ["--until", "budget", "--adapter", "none", "--reward", "36", "--set", "answer_rules=false"]


@dataclass(frozen=True)
class Stacked:
    """A run that calibrates, then scales over good adapters, and then tries what cannot be put on several adapters."""

    argv: list[str]
    record: dict[str, Any]
    folder: Path
    contexts: list[PolicyContext]


@pytest.fixture(scope="module")
def stacked(questions: Path, tiny_model_folder: Path, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Stacked:
    folder = tmp_path_factory.mktemp("stacked")
    (folder / "pretrained").symlink_to(shelf.parent)
    argv = command(questions, tiny_model_folder, folder, PLAN, *BUDGET)
    contexts, propose = list[PolicyContext](), FixedPolicy.propose

    def heard(self: FixedPolicy, context: PolicyContext, n: int, seed: int) -> list[str]:
        contexts.append(context)
        return propose(self, context, n, seed)

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setattr(FixedPolicy, "propose", heard)
        assert main(argv) == 0
    record = json.loads(out.getvalue())
    return Stacked(argv, record, folder / "runs" / record["run_id"], contexts)


def test_accepted_strategies_stack_and_their_steps_add_up(stacked: Stacked) -> None:
    record = stacked.record
    trials, test, adopted = record["trials"], record["test"], record["adopted"]
    assert [trial["accepted"] for trial in trials] == [True, True, False, False, False, False]
    assert adopted["strategies"] == [CALIBRATE, TTS]
    assert adopted["answer_rule"] == {key: CALIBRATE[key] for key in ("prior", "strength", "length")}
    assert len(adopted["together"]["adapters"]) == 2
    assert record["reward"]["answer_rules"]["best"] == adopted["answer_rule"]
    items = stacked.folder / "items"
    base, first, second = (load_items(items / f"{name}.jsonl") for name in ("base", "attempt-1", "attempt-2"))
    found, level = trials[1]["comparison"], 0.1 / len(PLAN)
    behind = compare(first, second, "either", level=level, price=found["price"])
    assert found == behind.model_dump(mode="json")
    assert found["price"] > 0
    assert found["loss_change"] != compare(base, second, "either").loss_change
    assert record["reward"]["best"] == trials[1]["reward"]
    assert [step["what"].split("(")[0] for step in test["steps"]] == ["1. Calibrate", "2. TTS"]
    assert test["default"] == test["baseline"]
    for change, key in (("accuracy_change", "accuracy"), ("loss_change", "loss")):
        total = sum(step[change] for step in test["steps"])
        assert total == pytest.approx(test["adapted"][key] - test["default"][key], abs=1e-9)
        assert test["steps"][-1][key] == test["adapted"][key]


def test_what_was_measured_before_the_loop_is_said_to_be_so_once_something_was_accepted(stacked: Stacked) -> None:
    first, second, *_ = (context.measured for context in stacked.contexts)
    assert first
    assert second == tuple(f"Before anything was accepted: {sentence}" for sentence in first)


def test_what_cannot_be_combined_costs_no_question(
    stacked: Stacked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, race = [], nodes.race_reward

    def counting(bench: Any, candidate: Any, best: Any, name: str, *rest: Any) -> Any:
        measured.append(name)
        return race(bench, candidate, best, name, *rest)

    monkeypatch.setattr(nodes, "race_reward", counting)
    record = run(capsys, [*stacked.argv, "--out", str(tmp_path / "runs")])
    why = [trial["reason"] for trial in record["trials"][2:5]]
    assert why == [
        "not applied: 2 adapters answer together, and it changes one",
        "not applied: 2 adapters answer together already",
        "rejected: already tried in this run",
    ]
    assert all(trial["reward"] is None for trial in record["trials"][2:5])
    assert measured == ["attempt-1", "attempt-2", "attempt-6"]
    assert record["evaluations"]["asked"] == 4 * 36


def test_until_the_first_the_run_ends_with_what_was_accepted_first(
    stacked: Stacked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(capsys, [*stacked.argv, "--until", "first", "--out", str(tmp_path / "runs")])
    assert record["attempts"] == 1
    assert record["adopted"]["strategies"] == [CALIBRATE]
    assert record["adopted"]["adapter"] is None


@pytest.mark.parametrize("node", ["decide", "evaluate", "conclude"])
def test_a_kill_between_accepted_strategies_is_resumed(
    node: str, stacked: Stacked, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv, called = [*stacked.argv, "--out", str(tmp_path / "cut")], []
    inner = {"decide": "_ask_policy", "evaluate": "judge", "conclude": "conclude_run"}[node]
    call = getattr(nodes, inner)

    def interrupted(*given: Any, **more: Any) -> Any:
        called.append(node)
        if len(called) == (1 if node == "conclude" else 2):  # the first strategy is accepted
            raise KeyboardInterrupt
        return call(*given, **more)

    monkeypatch.setattr(nodes, inner, interrupted)
    assert main(argv) == 130
    capsys.readouterr()
    [folder] = (tmp_path / "cut").iterdir()
    assert not (folder / "run.json").exists()
    resumed = run(capsys, [*argv, "--resume", folder.name])
    assert result(resumed) == result(stacked.record)
    assert json.loads((folder / "strategy.json").read_text())["strategies"] == [CALIBRATE, TTS]

"""Transductive strategies: made from the questions to be answered, for each part anew, and from their texts alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config import make_config
from agent.loop import applying
from agent.loop.applying import apply_for, remade_for_test
from agent.loop.conclude import adopted_of
from agent.loop.loading import build_workbench
from agent.loop.outcome import test_steps as answered
from agent.loop.request import read_task
from agent.loop.reward import price_of
from agent.loop.start import deployed, first_state
from agent.loop.state import State, Workbench
from agent.record.terminal import PlainView
from agent.run import main
from cao.model.adapters import load_adapter
from cao.strategy import restore_strategy
from cao.types import AdaptedModel, Example, Trial
from tools.apply_strategy import ttl

TTL = {"family": "TTL", "ttl_steps": 2, "learning_rate": 1e-4, "batch_size": 2, "shuffle_data": True, "inputs": "test"}
ASKED = "The bird flies {} times. The bird flies and the bird flies: what does it do?"
ROWS = [
    {"question": ASKED.format(n), "choices": ["And it can sleep", "The bird flies"], "answer": 1} for n in range(60)
]


@pytest.fixture(scope="module", params=["smollm2-135m", "qwen2.5-0.5b"])
def bench(request: Any, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A workbench with the tiny model, asked for answers as texts and as letters."""
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "birds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = {"task": str(path), "model": request.param, "policy": "random", "offline": True, "adapter": "none"}
    sizes = {"support": 4, "reward": 6, "test": 8, "dtype": "float32"}
    config = make_config(None, {**options, **sizes}, [f"model_path={tiny_model_folder}"])
    return replace(build_workbench(config, *read_task(config), PlainView()), folder=folder)


def changed(bench: Workbench, change: Callable[[Example], Example], folder: Path) -> Workbench:
    """The same questions with other labels, in a folder of their own."""
    parts = {part: [change(one) for one in getattr(bench.splits, part)] for part in ("support", "reward", "test")}
    return replace(bench, splits=replace(bench.splits, **parts), folder=folder)


def relabelled(example: Example) -> Example:
    return example.model_copy(update={"answer": 0, "gold_text": "leaked"})


def turned(example: Example) -> Example:
    return example.model_copy(update={"choices": example.choices[::-1]})


def bytes_of(model: AdaptedModel) -> dict[str, bytes]:
    """The weights' bytes; the order of a file's header is chance."""
    (member,) = model.members
    assert member is not None
    return {name: tensor.numpy().tobytes() for name, tensor in load_adapter(Path(member.path)).tensors.items()}


@pytest.mark.parametrize("part", ["reward", "test"])
def test_no_label_and_no_order_of_choices_can_leak(bench: Workbench, part: Any, tmp_path: Path) -> None:
    strategy, start = restore_strategy(TTL), deployed(bench)
    made = bytes_of(apply_for(bench, strategy, start, part, "one"))
    other = changed(bench, relabelled, tmp_path / "labels")
    assert [one.answer for one in other.splits.test] != [one.answer for one in bench.splits.test]
    assert bytes_of(apply_for(other, strategy, start, part, "one")) == made
    if bench.lm.profile.answer_style == "text":  # with letters, the choices are read by whoever is asked
        turn = changed(bench, turned, tmp_path / "turned")
        assert bytes_of(apply_for(turn, strategy, start, part, "one")) == made


def after_loop(bench: Workbench, settings: dict[str, Any]) -> State:
    """The state after a loop that accepted a strategy."""
    made = apply_for(bench, restore_strategy(settings), deployed(bench), "reward", "attempt-1")
    trial = Trial(attempt=1, strategy=settings, accepted=True, reason="accepted")
    best, start = bench.pack(made), bench.pack(deployed(bench))
    return {**first_state(bench), "started": start, "best": best, "steps": [best], "trials": [trial], "accepted": True}


def test_the_test_part_is_answered_by_what_was_made_from_its_own_questions(bench: Workbench) -> None:
    state = after_loop(bench, TTL)
    made = remade_for_test(state, bench)
    model = bench.adapted(made["best"])
    assert [bench.adapted(step).members for step in made["steps"]] == [model.members]
    assert model.members == apply_for(bench, restore_strategy(TTL), deployed(bench), "test", "again").members
    assert model.members != bench.adapted(state["best"]).members
    assert [len(items) for items in answered({**state, **made}, bench)[0].values()] == [8, 8]
    assert "questions about to be answered that passed P0" in model.note
    assert model.note.endswith("it is made for this run's test questions: for others, apply the strategy to those")
    adopted = adopted_of({**state, **made}, bench)
    assert adopted.adapter is not None
    (member,) = model.members
    assert member is not None
    assert adopted.adapter.sha256 == member.sha256  # what is handed over is what the test figures speak of
    load_adapter(bench.folder / "adapter", bench.lm.sha256)


def test_a_second_strategy_of_the_kind_does_not_pay_for_the_folder_again(bench: Workbench) -> None:
    state, strategy = after_loop(bench, TTL), restore_strategy(TTL)
    model = bench.adapted(state["best"])
    assert price_of({**state, "trials": []}, bench, model, strategy) == bench.config.serving_price > 0
    assert price_of(state, bench, model, strategy) == 0.0


def test_what_acts_on_the_support_prompts_serves_both_parts(bench: Workbench) -> None:
    settings = {**TTL, "inputs": "support"}
    state = after_loop(bench, settings)
    assert not remade_for_test(state, bench)
    assert (
        bench.adapted(state["best"]).members
        == apply_for(bench, restore_strategy(settings), deployed(bench), "test", "again").members
    )


def test_where_the_test_questions_give_nothing_to_learn_the_reward_parts_model_answers(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = after_loop(bench, TTL)
    monkeypatch.setattr(ttl, "LOG_P0", 100.0)
    made = remade_for_test(state, bench)
    model = bench.adapted(made["best"])
    assert "steps" not in made
    assert model.members == bench.adapted(state["best"]).members
    assert "could not be applied anew to the test questions (no prompt passes TTL's threshold" in model.note


def test_a_run_trains_once_for_each_part_and_hands_over_the_second(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    apply = applying.apply_strategy

    def applied(strategy: Any, prompts: list[str], *rest: Any, **options: Any) -> AdaptedModel:
        seen.append(prompts)
        return apply(strategy, prompts, *rest, **options)

    monkeypatch.setattr(applying, "apply_strategy", applied)
    path, plan = tmp_path / "birds.jsonl", tmp_path / "plan.jsonl"
    # the untrained model prefers the first choice in every question; the trained one has read of flying birds
    rows = [{**row, "choices": ["What is it", "The bird flies"]} for row in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan.write_text(json.dumps({**TTL, "ttl_steps": 20, "learning_rate": 1e-2}))
    words = ["--task", str(path), "--model", "smollm2-135m", "--policy", "fixed", "--adapter", "none", "--offline"]
    words += ["--support", "8", "--reward", "12", "--test", "14", "--dtype", "float32", "--max-attempts", "1"]
    words += ["--set", "answer_rules=false"]
    words += ["--set", f"model_path={tiny_model_folder}", "--set", f"policy_settings.strategy_file={plan}"]
    assert main([*words, "--out", str(tmp_path / "runs"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "improved", record["trials"][0]["reason"]
    assert [len(prompts) for prompts in seen] == [12, 14]
    assert not set(seen[0]) & set(seen[1])
    folder = tmp_path / "runs" / record["run_id"]
    assert (folder / "adapters" / record["adopted"]["adapter"]["sha256"]).is_dir()
    assert not (folder / "work").exists()


def test_the_papers_reward_asks_no_price(bench: Workbench) -> None:
    model, strategy = bench.adapted(after_loop(bench, TTL)["best"]), restore_strategy(TTL)
    state: State = {**first_state(bench), "trials": [], "best": bench.pack(deployed(bench))}
    free = replace(bench, config=bench.config.model_copy(update={"accept": "any"}))
    assert (price_of(state, free, model, strategy), price_of(state, bench, model, strategy)) == (0.0, 0.005)

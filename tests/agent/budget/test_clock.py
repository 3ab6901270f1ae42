"""A time budget: what fits is chosen before, and nothing is begun that there is no time for."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import session
from agent.budget import clock
from agent.budget.clock import Clock, Prices, pace_of
from agent.budget.fit import LEAST, Fit, fit
from agent.budget.plan import Speed, stage_seconds, total_seconds
from agent.config import RunConfig
from agent.loop import loading
from agent.run import main
from cao.errors import InputError
from cao.strategy import validate_strategy
from cao.tasks.base import Task, choice_example
from cao.tasks.splits import Splits

PROMPT = "How much is two plus two, and why? " * 5
EXAMPLES = [choice_example(f"{PROMPT}{i}", ("four", "five", "three"), 0) for i in range(200)]
TASK = Task("sums", "Sums", "a test", lambda: EXAMPLES)
SPLITS = Splits(EXAMPLES[:32], EXAMPLES[:96], EXAMPLES)
SPEED = Speed(1e-3, 5e-4, 0.02)


def fitted(minutes: float, speed: Speed = SPEED) -> Fit:
    config = RunConfig(task="sums", minutes=minutes)
    return fit(config, speed, TASK, SPLITS, "likelihood", 3, 60 * minutes)


def test_a_long_budget_changes_nothing() -> None:
    config = fitted(600).config
    assert (config.reward, config.test, config.max_attempts) == (96, 200, 4)


@given(st.floats(0.5, 60), st.floats(1.0, 4.0))
def test_more_time_never_means_less_work_and_the_usual_course_fits(minutes: float, more: float) -> None:
    try:
        short = fitted(minutes)
    except InputError:
        return
    long = fitted(more * minutes).config
    sizes = [(c.reward, c.test) for c in (short.config, long)]
    assert sizes[0] <= sizes[1]
    assert sizes[0] < sizes[1] or short.config.max_attempts <= long.max_attempts
    assert short.config.reward >= LEAST
    assert short.config.test >= LEAST
    each = {"reward": 0.0, "test": 0.0}
    for name in each:
        size = getattr(short.config, name)
        each[name] = size * SPEED.question(len(EXAMPLES[0].prompt), 13)
    stages = {**stage_seconds(SPEED, short.config, **each, starts=3), "start-up": (0.0, 0.0)}
    low, high = total_seconds(stages, short.config.max_attempts)
    assert (low + high) / 2 <= 60 * minutes


def test_a_slower_machine_does_less() -> None:
    fast, slow = (fitted(4, SPEED.times(factor)).config for factor in (1, 4))
    assert (slow.reward, slow.test) < (fast.reward, fast.test)


def test_too_little_time_says_how_much_is_needed() -> None:
    with pytest.raises(InputError, match=r"--minutes 0\.01 is too short here; the smallest run takes about") as error:
        fitted(0.01)
    needed = float(str(error.value).split("about ")[1].split(" ")[0])
    assert fitted(needed * 1.1).config.reward == LEAST


def test_a_clock_counts_what_earlier_processes_took(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock.time, "monotonic", lambda: 130.0)
    assert Clock(100, spent=40, began=110.0).left == 40
    assert Clock(began=110.0).left == math.inf


def test_prices_by_hand() -> None:
    prompts = ["x" * 40, "y" * 40]  # ten tokens each
    speed = Speed(0.01, 0.02, 0.1)
    prices = Prices(speed, pace_of(speed, prompts, each=0.5, reward=50, test=100))
    assert prices.reserve() == 100
    assert prices.reserve(4) == 250
    further = replace(prices, steps=3.0)  # a start, and an accepted one of two members
    assert (further.settled, further.reserve(), further.reserve(4)) == (150, 250, 400)
    assert prices.attempt() == pytest.approx(900 * 0.01 + 60 * 0.1 + LEAST * 0.5)
    wanted = {
        '{"family": "LORA", "lambda": 0.5}': 0.5 * LEAST + 100,
        '{"family": "TTL", "ttl_steps": 5, "learning_rate": 1e-4, "batch_size": 2, "shuffle_data": true}': (
            (3 * 10 + 2) * 10 * 0.03 + 0.5 * LEAST + 100
        ),
        (
            '{"family": "TTL", "ttl_steps": 5, "learning_rate": 1e-4, "batch_size": 2, "shuffle_data": true, '
            '"inputs": "test"}'
        ): (3 * 10 + 50 + 3 * 10 + 100) * 10 * 0.03 + 0.5 * LEAST + 100,
        '{"family": "TTS", "num_prompt_batches": 4, "method": "max_confidence"}': 1.2 + 4 * 0.5 * LEAST + 250,
        '{"family": "Latent", "slot_steps": 10, "slot_lr": 0.1}': (1 + 0.8) * 0.5 * LEAST + (2 + 0.8) * 50,
    }
    for text, seconds in wanted.items():
        strategy = validate_strategy(json.loads(text))
        assert prices.whole(strategy) == pytest.approx(seconds)
        once_more = (3 * 10 + 100) * 10 * 0.03 if "inputs" in text else 0
        assert prices.again(strategy) == pytest.approx(once_more)


def test_what_was_accepted_is_made_once_more_for_the_test_part_where_one_of_it_is_transductive() -> None:
    speed = Speed(0.01, 0.02, 0.1)
    alone = Prices(speed, pace_of(speed, ["x" * 40, "y" * 40], each=0.5, reward=50, test=100))
    ttl = {"family": "TTL", "ttl_steps": 5, "learning_rate": 1e-4, "batch_size": 2, "shuffle_data": True}
    on_support, on_test = validate_strategy(ttl), validate_strategy({**ttl, "inputs": "test"})
    calibrate = validate_strategy({"family": "Calibrate", "prior": "choice", "strength": 0.5, "length": "char"})
    once, anew = (3 * 10 + 2) * 10 * 0.03, (3 * 10 + 100) * 10 * 0.03  # on two prompts, and on the test questions
    assert replace(alone, accepted=(on_support,)).again(calibrate) == 0
    stacked = replace(alone, accepted=(on_support, on_test))
    assert stacked.again() == pytest.approx(once + anew)
    assert stacked.again(calibrate) == pytest.approx(once + anew)
    assert stacked.whole(calibrate) == pytest.approx(alone.whole(calibrate) + once + anew)
    assert replace(alone, accepted=(on_support,)).again(on_test) == pytest.approx(once + anew)


# whole runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Starts a run of two attempts on the tiny model and returns its record and what was told."""
    path, plan = tmp_path / "sums.jsonl", tmp_path / "plan.jsonl"
    rows = [
        {"question": f"How much is {a} plus {b}?", "choices": [str(a + b), str(a + b + 1)], "answer": 0}
        for a in range(2, 12)
        for b in range(10, 25)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [{"family": "Latent", "slot_steps": n, "slot_lr": 1e-5} for n in (1, 2)]
    plan.write_text("".join(json.dumps(step) + "\n" for step in steps))
    settings = [f"model_path={tiny_model_folder}", f"policy_settings.strategy_file={plan}", "adapter=none"]
    words = ["--model", "qwen2.5-0.5b", "--policy", "fixed", "--offline", "--json", "--max-attempts", "2"]
    words += ["--support", "16", "--reward", "48", "--test", "48", "--dtype", "float32"]

    def go(*more: str) -> tuple[dict[str, Any], str]:
        sets = [word for setting in settings for word in ("--set", setting)]
        code = main(["--task", str(path), "--out", str(tmp_path / "runs"), *words, *sets, *more])
        told = capsys.readouterr()
        assert code == 0, told.err
        return json.loads(told.out), told.err

    return go


def test_a_run_says_before_it_starts_what_it_will_do(start: Any) -> None:
    record, told = start("--minutes", "30")
    lines = told.splitlines()
    plan = next(i for i, line in enumerate(lines) if line.startswith("30 minutes: 48 reward and 48 test questions"))
    assert plan < next(i for i, line in enumerate(lines) if line.startswith("describe"))
    assert record["attempts"] == 2
    assert record["config"]["minutes"] == 30


def test_sizes_are_cut_and_a_resumed_run_keeps_them(
    start: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = Speed(0.1, 0.05, 0.01)
    monkeypatch.setattr(loading, "timed_speed", lambda *_: slow)
    record, _ = start("--minutes", "1.5", "--set", "support=16")
    assert record["splits"]["reward"] < 48
    assert record["splits"]["reward"] == record["config"]["reward"]
    monkeypatch.undo()
    (tmp_path / "runs" / record["run_id"] / "run.json").unlink()
    assert main(["--resume", record["run_id"], "--out", str(tmp_path / "runs"), "--offline", "--json"]) == 0
    told = capsys.readouterr()
    again = json.loads(told.out)
    assert again["splits"] == record["splits"]
    assert again["test"] == record["test"]
    ended = f"{record['run_id']} had ended already"
    assert ended not in told.err
    assert main(["--resume", record["run_id"], "--out", str(tmp_path / "runs"), "--offline"]) == 0
    assert ended in capsys.readouterr().err


def test_no_attempt_begins_that_there_is_no_time_for(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prices, "attempt", lambda self: math.inf)
    record, told = start("--minutes", "30")
    assert record["attempts"] == 0
    assert record["status"] == "no_improvement"
    assert record["test"]["baseline"]["n"] == 48  # the test part is read all the same
    assert "the time budget leaves no room for another attempt" in told


def test_a_strategy_that_is_too_dear_is_refused_with_its_price(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Prices.whole
    monkeypatch.setattr(Prices, "whole", lambda self, one: 5e3 if one.slot_steps == 1 else whole(self, one))
    record, _ = start("--minutes", "30")
    first, second = record["trials"]
    assert first["reason"].startswith("not tried: it would take about 5000 s with its test questions, 1")
    assert first["reward"] is None
    assert second["reward"] is not None


def test_a_race_ends_when_time_is_up(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([1e6] * 2)  # deciding and applying; none at the first look
    monkeypatch.setattr(Clock, "left", property(lambda self: next(left, 0.0)))
    monkeypatch.setattr(session, "fitted", lambda bench, view: bench)
    record, _ = start("--minutes", "30", "--set", "racing=false")
    (trial,) = record["trials"]
    assert trial["dropped_after"] == 24
    assert "at its pace the rest and the test questions would take about" in trial["reason"]
    assert not trial["accepted"]

"""The end of a loop: what cannot answer the test questions is withdrawn, and a finished loop is not lost."""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent import session
from agent.config import make_config
from agent.loop import outcome
from agent.loop.conclude import smallest_seen
from agent.loop.loading import build_workbench
from agent.loop.outcome import test_steps as answered
from agent.loop.request import read_task
from agent.loop.reward import measure_part
from agent.loop.start import deployed, first_state
from agent.loop.state import State, Workbench
from agent.record.terminal import PlainView
from agent.run import main
from cao.errors import InputError, NotApplicableError
from cao.types import AdaptedModel, AnswerRule, Example, Item, LatentSettings, Reward, Trial
from tests.agent.run.tiny_runs import LATENT, arguments, strategies, write_rows
from tools.evaluate import save_items
from tools.evaluate.statistics import smallest_detectable

ROWS = [{"question": f"Can bird {n} fly?", "choices": ["no", "yes"], "answer": n % 2} for n in range(60)]
SHORT, LONG = LatentSettings(slot_steps=1, slot_lr=0.01), LatentSettings(slot_steps=2, slot_lr=0.01)


@pytest.fixture
def bench(tiny_model_folder: Path, tmp_path: Path) -> Workbench:
    path = tmp_path / "birds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = {"task": str(path), "model": "qwen2.5-0.5b", "policy": "random", "offline": True, "adapter": "none"}
    sizes = {"support": 4, "reward": 6, "test": 8, "dtype": "float32"}
    config = make_config(None, {**options, **sizes}, [f"model_path={tiny_model_folder}"])
    return replace(build_workbench(config, *read_task(config), PlainView()), folder=tmp_path)


def reward(score: float) -> Reward:
    return Reward(score=score, ci95=(0.0, 1.0), margin=0.0, loss=1.0, gold_nll_per_char=1.0, n=6)


def after(bench: Workbench) -> State:
    """A loop that accepted two strategies behind a refused one, on top of the generated adapter."""
    plain = bench.pack(deployed(bench))
    steps = [bench.pack(AdaptedModel(latent=latent)) for latent in (SHORT, LONG)]
    strategies: list[Any] = [{"family": "Latent", "slot_steps": n, "slot_lr": 0.01} for n in (1, 2)]
    trials = [
        Trial(attempt=1, accepted=False, reason="rejected: no JSON"),
        Trial(attempt=2, strategy=strategies[0], accepted=True, reason="accepted.", reward=reward(0.6)),
        Trial(attempt=3, strategy=strategies[1], accepted=True, reason="accepted.", reward=reward(0.7)),
    ]
    begun: Any = {"reward": reward(0.5), "comparison": None, "dropped_after": None}
    return {
        **first_state(bench),
        **{"base": plain, "started": plain, "start": "generated", "starts": {"generated": begun, "aligned": None}},
        **{"baseline": reward(0.4), "best": steps[-1], "best_reward": reward(0.7), "steps": steps, "trials": trials},
        "accepted": True,
    }


def failing(monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """Make the n-th model fail at the test questions: 0 is the deployed one, 1 the start."""
    asked: list[str] = []

    def measured(bench: Workbench, model: AdaptedModel, part: Any, name: str) -> Any:
        asked.append(name)
        if len(asked) == nth + 1:
            raise NotApplicableError("its output is not finite")
        return measure_part(bench, model, part, name)

    monkeypatch.setattr(outcome, "measure_part", measured)


def test_all_that_can_answer_stays(bench: Workbench) -> None:
    answers, withdrawn = answered(after(bench), bench)
    assert len(answers) == 4
    assert withdrawn == {}


@pytest.mark.parametrize(
    ("nth", "accepted", "start", "score"),
    [(3, [False, True, False], "generated", 0.6), (2, [False] * 3, "generated", 0.5), (1, [False] * 3, "base", 0.4)],
)
def test_what_cannot_answer_is_withdrawn_with_what_stands_on_it(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, nth: int, accepted: list[bool], start: str, score: float
) -> None:
    state = after(bench)
    failing(monkeypatch, nth)
    answers, withdrawn = answered(state, bench)
    assert len(answers) == nth
    left: State = {**state, **withdrawn}
    assert [trial.accepted for trial in left["trials"]] == accepted
    gone = [trial for trial in left["trials"][1:] if not trial.accepted]
    why = "accepted. Withdrawn: it could not answer the test questions (its output is not finite)."
    assert {trial.reason for trial in gone} == {why}
    assert left["trials"][0].reason == "rejected: no JSON"
    assert (left["start"], left["accepted"]) == (start, any(accepted))
    assert left["best_reward"] == reward(score)
    assert left["steps"] == state["steps"][: sum(accepted)]
    assert left["best"] == (left["steps"][-1] if left["steps"] else left["started"])


def test_a_deployed_model_that_cannot_answer_is_an_error(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, 0)
    with pytest.raises(InputError, match="the deployed model cannot answer the test questions: its output"):
        answered(after(bench), bench)


def test_one_test_question_of_other_choices_takes_the_rule_of_labels_away(bench: Workbench) -> None:
    """It is asked of the test questions, too, so a rule that they do not bear is never offered."""
    assert "batch" in bench.priors

    def other(example: Example) -> Example:
        return example.model_copy(update={"choices": ("no", "yes", "maybe")})

    first, *rest = bench.splits.test
    odd = replace(bench, splits=replace(bench.splits, test=[other(first), *rest]))
    assert "batch" not in odd.priors
    rule = AnswerRule(prior="batch", strength=1.0, length="char")
    with pytest.raises(NotApplicableError, match="same words in every question"):
        measure_part(odd, deployed(odd).under(rule), "test", "odd")


def test_prompts_without_choices_take_the_rule_of_labels_away_and_no_other(bench: Workbench) -> None:
    bare = [example.model_copy(update={"choices": (), "gold_text": "?"}) for example in bench.splits.support]
    assert replace(bench, splits=replace(bench.splits, support=bare)).priors == ("none", "choice")
    nothing = replace(bench.splits, support=bare, reward=[], test=[])
    assert replace(bench, splits=nothing).priors == ("none",)


def test_an_accepted_attempt_is_held_against_the_best_before_it(tmp_path: Path) -> None:
    moved, small = (2.0, 0.0, 2.0, 0.0), (1.9, 0.0, 1.9, 0.1)
    (tmp_path / "items").mkdir()
    losses = {"base": (3.0,) * 4, "attempt-1": moved, "attempt-2": moved, "attempt-3": small}
    for name, each in losses.items():
        items = [Item(id=f"q{n}", correct=True, loss=loss) for n, loss in enumerate(each)]
        save_items(tmp_path / "items" / f"{name}.jsonl", items)
    trials = [
        Trial(attempt=number, accepted=accepted, reason="", reward=reward(0.5))
        for number, accepted in ((1, True), (2, False), (3, True))
    ]
    state: Any = {"start": "base", "trials": trials, "starts": {}}
    bench: Any = SimpleNamespace(folder=tmp_path)
    pairs = (((3.0,) * 4, moved), (moved, small))
    steps = [statistics.stdev(b - a for a, b in zip(*pair, strict=True)) for pair in pairs]
    found = smallest_seen(bench, state)
    assert found.loss == pytest.approx(smallest_detectable(statistics.median(steps), 4))
    last: Any = {**state, "trials": trials[2:]}
    assert found.loss < smallest_seen(bench, last).loss  # against the start, which holds the first step, too


def test_the_loss_of_written_answers_is_said_to_tell_nothing(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    for name, loss in (("base", 1.0), ("attempt-1", 0.9)):
        items = [Item(id=f"q{n}", correct=n < 2, loss=loss + n, text="an answer") for n in range(4)]
        save_items(tmp_path / "items" / f"{name}.jsonl", items)
    trial = Trial(attempt=1, accepted=False, reason="", reward=reward(0.5))
    state: Any = {"start": "base", "trials": [trial], "starts": {}}
    bench: Any = SimpleNamespace(folder=tmp_path)
    assert smallest_seen(bench, state).model_dump() == {"loss": None, "accuracy": 0.25}


def test_what_a_users_code_prints_stays_out_of_the_outcome(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = session.run

    def printing(*given: Any, **more: Any) -> Any:
        print("a grader's own words")  # noqa: T201
        return plain(*given, **more)

    monkeypatch.setattr(session, "run", printing)
    path = write_rows(tmp_path / "birds.jsonl", ROWS)
    argv = arguments(path, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT), "--max-attempts", "1")
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["task"] == "birds"
    assert "a grader's own words" in captured.err

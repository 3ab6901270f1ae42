"""How a run shows long steps on a terminal and elsewhere."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.loop import answers, reward
from agent.record import terminal
from agent.record.events import sentence
from agent.record.schema import RunRecord
from agent.record.starting import start_sentence
from agent.record.terminal import LiveView, PlainView, print_summary
from agent.record.wording import at_chance_text, verdict
from cao.progress import Pace, Progress, listen, timed
from cao.types import AdaptedModel, Example, Item
from tests.agent import run_folders as made
from tests.agent.loop.rewards import N, adapter, bench


def test_a_step_is_told_when_it_begins_and_with_its_seconds_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with timed("converting the model"):
        assert capsys.readouterr().err == f"{'':<20}converting the model …\n"
    seconds, _, what = capsys.readouterr().err.strip().partition(" s  ")
    assert (what, float(seconds) >= 0) == ("converting the model", True)


def test_a_step_that_fails_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), timed("converting the model"):
        raise ValueError("broken")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_last_one_that_listens_hears_until_it_stops() -> None:
    first: list[str] = []
    second: list[str] = []
    stop_first = listen(lambda what, seconds: first.append(what))
    stop_second = listen(lambda what, seconds: second.append(what))
    with timed("a"):
        pass
    stop_second()
    with timed("b"):
        stop_first()  # even one that stops during a step
    assert (first, second) == (["b"], ["a", "a"])


def test_the_live_view_keeps_one_line_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    with timed("converting the model [once]"):
        pass
    view.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if "converting" in line]
    assert [line.split(" s  ")[1] for line in lines] == ["converting the model [once]"]


@pytest.mark.parametrize("run", [made.started_run("one"), made.dropped_start("one"), made.record("one")])
def test_no_sentence_sets_an_absolute_figure_beside_a_bare_change(run: dict[str, Any]) -> None:
    read, event = RunRecord.model_validate(run), {"baseline": run["reward"]["baseline"]}
    event = made.start_event(run) if "start" in run["reward"] else event
    for text in (start_sentence(read), verdict(read), sentence("evaluate", event)):
        for one in re.split(
            r"(?<=\.) (?=[A-Z])", re.sub(r"\([^()]*;[^()]*McNemar[^()]*\)|\([−+][^()]*; p [^()]*\)", "", text)
        ):
            absolute = re.search(r"\d %|log-loss (?:from )?\d", one)
            assert not (absolute and re.search(r"[−+]\d", one)), one


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made_up = Clock()
    monkeypatch.setattr(terminal, "time", made_up)
    return made_up


def test_plain_progress_has_a_guess_of_what_is_left_and_no_line_twice(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    view = PlainView()
    for now, done in ((0, 0), (5, 10), (11, 24), (25, 24), (40, 24), (52, 48), (63, 96)):
        clock.now = 100.0 + now
        view.progress("attempt 1, reward questions", done, 96)
    assert capsys.readouterr().err.splitlines() == [
        "          attempt 1, reward questions: 24 of 96, about 33 s left",
        "          attempt 1, reward questions: 48 of 96, about 52 s left",
        "          attempt 1, reward questions: 96 of 96",
    ]


def test_the_guess_begins_anew_with_other_work() -> None:
    pace = Pace()
    assert pace.left("a", 50, 100, 0.0) is None  # kept answers: nothing of them took time here
    assert pace.left("a", 60, 100, 10.0) == pytest.approx(40.0)
    assert pace.left("b", 1, 100, 11.0) is None
    assert pace.left("b", 0, 0, 12.0) is None


def test_work_that_was_kept_says_nothing_of_what_is_left() -> None:
    """Twenty-five of 54 situations were there; each of the others takes a minute."""
    pace = Pace()
    for done in range(1, 26):
        pace.left("situations ready", done, 54, 0.01 * done)
    assert pace.left("situations ready", 26, 54, 60.25) == pytest.approx(28 * 60.0)
    assert pace.left("situations ready", 27, 54, 120.25) == pytest.approx(27 * 60.0)
    assert pace.left("situations ready", 28, 54, 120.26) == pytest.approx(26 * 60.0)  # one more was there
    assert pace.left("situations ready", 28, 54, 150.26) == pytest.approx(26 * 75.0)  # half a minute without one


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(1.0, 9.0)), min_size=1, max_size=20), st.integers(0, 50))
def test_where_all_took_as_long_as_each_other_the_guess_is_the_mean(took: list[tuple[int, float]], rest: int) -> None:
    pace, total = Pace(), sum(more for more, _ in took) + rest
    done, now, found = 0, 0.0, pace.left("a", 0, total, 0.0)
    assert found is None
    for more, each in took:
        done, now = done + more, now + more * each
        found = pace.left("a", done, total, now)
    assert found == pytest.approx(rest * now / done)


def _answering(parts: int) -> Callable[..., list[Item]]:
    """Stand for ``evaluate``: answer in batches, each of ``parts`` adapters its own questions, and tell of them."""

    def evaluate(task: Any, examples: list[Example], *_: Any, progress: Progress, **__: Any) -> list[Item]:
        for part in range(parts):
            mine = examples[part::parts]
            for done in range(3, len(mine) + 3, 3):
                progress("score", min(done, len(mine)), len(mine))
        progress("prompts longer than the model's context, beginning dropped", 1, len(examples))
        return [Item(id=example.id, correct=True, loss=1.0) for example in examples]

    return evaluate


@pytest.mark.parametrize(("parts", "members"), [(1, 1), (1, 3), (4, 1)])
def test_progress_counts_one_measurement_up_and_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, members: int
) -> None:
    monkeypatch.setattr(answers, "evaluate", _answering(parts))
    monkeypatch.setattr(answers, "together", lambda example, given, method: given[0])
    heard: list[tuple[str, int, int]] = []
    work = bench(tmp_path)
    work.progress = lambda *told: heard.append(told)
    several = AdaptedModel(members=tuple(adapter(f"a{i}") for i in range(members)), method="average_logits")
    reward.measure_part(work, several if members > 1 else AdaptedModel(), "reward", "attempt-2")
    counts = [(label, done, of) for label, done, of in heard if "prompts longer" not in label]
    by = "" if members == 1 else f" by each of {members} adapters"
    assert {(label, of) for label, _, of in counts} == {(f"attempt 2, reward questions{by}", members * N)}
    done = [done for _, done, _ in counts]
    assert done == sorted(set(done))
    assert done[-1] == members * N
    assert any(label.startswith("attempt 2, reward questions") for label, *_ in heard if "prompts longer" in label)


@pytest.mark.parametrize("chance", [0.25, None])
def test_the_summary_has_a_line_for_guessing_and_counts_one_attempt(
    capsys: pytest.CaptureFixture[str], chance: float | None
) -> None:
    run = made.record("one")
    run["test"]["chance"], run["trials"] = chance, run["trials"][-1:]
    print_summary(RunRecord.model_validate(run), "runs/one")
    shown = capsys.readouterr().out
    assert ("│ guessing       │   25.0 % │" in shown) == (chance is not None)
    assert "\n1 attempt in 177 s" in shown
    assert "Computed in bfloat16, chosen automatically; an unknown processor." in shown


def test_models_at_chance_are_called_so_and_guessing_stands_beside_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = made.record("one")
    for side in ("baseline", "adapted"):
        raw["test"][side] |= {"chance": 0.25, "uniform_loss": 1.3863, "at_chance": side == "baseline"}
    raw["test"]["chance"] = 0.25
    print_summary(RunRecord.model_validate(raw), "runs/one")
    shown = " ".join(capsys.readouterr().out.split())
    assert "deployed model, at chance" in shown
    assert "adapted, at chance" not in shown
    assert "1.3863" in shown
    assert "On test the deployed model is at chance: guessing has accuracy 25.0 % and log-loss 1.3863." in shown
    raw["test"]["baseline"]["uniform_loss"] = 0.0  # answers are written
    told = at_chance_text(RunRecord.model_validate(raw))
    assert told == "On test the deployed model is no better than guessing, which has accuracy 25.0 %."

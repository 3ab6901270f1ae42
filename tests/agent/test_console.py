"""How a run shows long steps on a terminal and elsewhere."""

import pytest

from agent.console import LiveView
from cao.progress import hear, told


def test_a_step_is_told_when_it_begins_and_with_its_seconds_when_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with told("converting the model"):
        assert capsys.readouterr().err == f"{'':<20}converting the model …\n"
    seconds, _, what = capsys.readouterr().err.strip().partition(" s  ")
    assert (what, float(seconds) >= 0) == ("converting the model", True)


def test_a_step_that_fails_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), told("converting the model"):
        raise ValueError("broken")
    assert capsys.readouterr().err.count("\n") == 1


def test_the_last_one_that_listens_hears_until_it_stops() -> None:
    first: list[str] = []
    second: list[str] = []
    stop_first = hear(lambda what, seconds: first.append(what))
    stop_second = hear(lambda what, seconds: second.append(what))
    with told("a"):
        pass
    stop_second()
    with told("b"):
        stop_first()  # even one that stops during a step
    assert (first, second) == (["b"], ["a", "a"])


def test_the_live_view_keeps_one_line_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView()
    with told("converting the model [once]"):
        pass
    view.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if "converting" in line]
    assert [line.split(" s  ")[1] for line in lines] == ["converting the model [once]"]

"""How far a table is, and how long it will take yet."""

import pytest

from eval.paper.cells.kept import Key
from eval.paper.cells.work import Eta, Found, Job, Outcome


def jobs(*names: str) -> dict[Job, float]:
    return {Job(Key(name, "arc_easy", 0), {"row": name}): 10.0 for name in names}


def test_a_guess_follows_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    asked = jobs("base", "maml", "abmll", "serl")
    eta = Eta(Found(jobs=({}, asked)), workers=2)
    assert "4 are to be made" in capsys.readouterr().err
    assert eta.left == 20.0
    first, second, *_ = asked
    eta.finished(first, 10.0, Outcome(seconds=30.0))
    assert eta.left == 45.0  # three of ten seconds each, three times as slow, two at a time
    assert "[1/4 done] base on arc_easy, seed 0 took 30 s; about 45 s left" in capsys.readouterr().err
    eta.finished(second, 10.0, Outcome(reason="trl is not installed", seconds=0.0))
    assert "maml on arc_easy, seed 0 n/a: trl is not installed" in capsys.readouterr().err
    assert eta.left == 30.0


def test_a_plan_counts_what_is_to_be_done_by_row() -> None:
    found = Found(jobs=(jobs("maml"), jobs("maml", "base")))
    assert found.plan() == {"preparation of maml": (1, 10.0), "maml": (1, 10.0), "base": (1, 10.0)}

"""Which model is current: that of the task that prompts are expected from, else the base model."""

import pytest

from agent.server.errors import ApiError
from agent.server.roster import Roster, Served


def test_the_model_of_the_expected_task_is_current() -> None:
    base, mine, made = Served("base"), Served("arc_easy"), Served("drift-1")
    roster = Roster(base, {"arc_easy": mine})
    assert not roster.expect(["piqa", "arc_easy"])
    assert roster.resolve("auto") is base
    assert roster.expect(["arc_easy"])
    assert (roster.resolve("auto"), roster.resolve("base")) == (mine, base)
    assert roster.expect(["drift-1"])
    assert roster.current is base
    assert roster.adopt("drift-1", made)
    assert roster.resolve("auto") is roster.resolve("drift-1") is made
    assert roster.names == ["base", "auto", "arc_easy", "drift-1"]
    assert roster.dismiss("drift-1")
    assert roster.current is base
    with pytest.raises(ApiError, match="no model 'drift-1'"):
        roster.resolve("drift-1")


def test_a_model_of_another_task_is_kept_until_its_prompts_come_again() -> None:
    roster = Roster(Served("base"))
    roster.expect(["drift-2"])
    assert not roster.adopt("drift-1", Served("drift-1"))
    assert roster.expect(["drift-1"])
    assert roster.current.name == "drift-1"

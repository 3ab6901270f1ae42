"""The arithmetic of the table of policies, by hand."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from agent.train.policy.report import Empty
from eval.policies.page import in_short
from eval.policies.results import Aim, Cell, PoliciesResult, Untouched
from eval.policies.verdicts import Picks, aim_of, first_share, share_of, sign_flips, values, verdicts, versus

TASKS, SEEDS = ["a", "b"], [0, 1]


def cell(first: tuple[int, int], gain: float = 0.0, attempts: int = 4) -> Cell:
    return Cell(
        first=first, improved=gain < 0, attempts=attempts, adopted=None, reward=(0.1, gain), test=(0.0, gain / 2)
    )


def result(tasks: Sequence[str] = TASKS, **rows: list[Cell]) -> PoliciesResult:
    names = [f"{task}-{seed}" for task in tasks for seed in SEEDS]
    cells = {row: dict(zip(names, several, strict=False)) for row, several in rows.items()}
    return PoliciesResult(
        **dict.fromkeys(("command", "table", "measured", "model", "model_sha256", "device", "dtype", "rule"), "none"),
        **dict.fromkeys(("practised", "points"), ()),
        **dict.fromkeys(("reward", "support", "limit", "draws", "attempts", "free", "arms_practised"), 4),
        **{key: {} for key in ("trainings", "policies", "tasks", "rows", "starts", "landscape", "valid")},
        untouched={
            name: Untouched(base=0.4, start=0.35 if name.startswith("a-") else 0.45, guessing=0.4, n=100)
            for name in names
        },
        seeds=tuple(SEEDS),
        cells=cells,
    )


def test_means_by_hand() -> None:
    """First attempts 1/4, 3/4 | 0, 1 → .5; twice the .25 of random; log-loss (−.2 − .4) / 4."""
    mine = [cell((1, 4), -0.2, 1), cell((3, 4)), cell((0, 4), -0.4, 3), cell((4, 4))]
    random = [cell((1, 4))] * 4
    judged = verdicts(result(mine=mine, random=random), TASKS)
    assert judged["mine"].first.mean == 0.5
    assert judged["mine"].against_random.ratio == 2.0
    assert judged["mine"].against_random.difference == 0.25
    assert judged["mine"].reward_loss.mean == pytest.approx(-0.15)
    assert judged["mine"].test_loss.mean == pytest.approx(-0.075)
    assert judged["mine"].attempts.mean == 3.0
    assert judged["mine"].improved.mean == 0.5
    assert judged["random"].against_random is None
    low, high = judged["mine"].first.ci95
    assert 0 <= low < 0.5 < high <= 1


def test_the_aim_by_hand() -> None:
    """The oracle gains 4 points in every situation, the trained policy 3: 75 % of it."""
    won, lost = cell((4, 4)), cell((0, 4))
    gains = {"oracle": 0.04, "shipped": 0.03}
    aim = aim_over("abcdef", gains, won, lost)
    assert (aim.policy, aim.times_random, aim.reached_random) == ("shipped", 4.0, True)
    assert not aim.above_every_fixed  # a fixed one that wins half of the tasks may be as good
    assert aim.oracle.mean == pytest.approx(0.04)
    assert aim.adopted.mean == pytest.approx(0.03)
    assert "**+4.0** points on test (+4.0 to +4.0; aim +3, surely above 0, p = 0.0312: reached)" in in_short(aim)
    found = "the loop of shipped +3.0, of the oracle's gain 75 % (75 to 75; aim 60 %: reached)"
    assert found in in_short(aim)
    assert aim.over_base.mean == pytest.approx((-0.02 + 5 * 0.08) / 6)  # on a the start is below the base model
    assert "leaves: **+6.3** points" in in_short(aim)
    assert "least on a, -2.0 (aim +5, on no task below -1: missed)" in in_short(aim)
    assert aim.repaired is None
    assert "On boolq" not in in_short(aim)
    few = aim_over("abcde", gains, won, lost)  # of five tasks that all say the same p is 1/16
    assert (few.times_random, few.reached_random, few.oracle_p) == (4.0, False, 0.0625)
    assert "surely above 0, p = 0.0625: missed" in in_short(few)
    assert isinstance(aim_of(result(), [], {}), Empty)


def test_whether_boolq_is_repaired() -> None:
    """Every start but that of a is 5 points above the base model; the loop's gain comes on top, here nothing."""
    won, lost = cell((4, 4)), cell((0, 4))
    aim = aim_over(["a", "boolq"], {"oracle": 0.0, "shipped": 0.0}, won, lost)
    assert aim.share is None
    assert "of the oracle's gain" not in in_short(aim)
    assert aim.repaired == pytest.approx(0.05)
    assert "On boolq +5.0 (aim +5: reached" in in_short(aim)
    worse = aim_over(["a", "boolq"], {"oracle": 0.0, "shipped": -0.01}, won, lost)
    assert "On boolq +4.0 (aim +5: missed" in in_short(worse)


def test_the_share_of_the_oracles_gain_by_hand() -> None:
    """The oracle gains 4 and 0 points, the policy 3 and 1: of 4 together all is found."""
    gains = {"oracle": [0.04, 0.04, 0.0, 0.0], "mine": [0.03, 0.03, 0.01, 0.01]}
    rows = {
        row: [cell((1, 4)).model_copy(update={"test": (gain, 0.0)}) for gain in each] for row, each in gains.items()
    }
    share = share_of(result(**rows), "mine", TASKS)
    assert share is not None
    assert share.mean == pytest.approx(1.0)
    assert share.ci95 is None  # a quarter of the draws are of the second task alone, and have no gain to find
    against = versus(result(**rows), "mine", "oracle", TASKS)
    assert against is not None
    assert (against.differ, against.ratio, against.ratio_ci95) == (0, 1.0, (1.0, 1.0))


def test_a_ratio_without_an_interval_and_the_tasks_that_say_something() -> None:
    """On a the one wins all and the other half, on b neither wins: a quarter of the draws have no ratio."""
    rows = {"mine": [cell((4, 4))] * 2 + [cell((0, 4))] * 2, "random": [cell((2, 4))] * 2 + [cell((0, 4))] * 2}
    against = verdicts(result(**rows), TASKS)["mine"].against_random
    assert against is not None
    assert (against.differ, against.ratio, against.ratio_ci95) == (1, 2.0, None)


def aim_over(tasks: Sequence[str], gains: Mapping[str, float], won: Cell, lost: Cell) -> Aim:
    n = len(tasks) * len(SEEDS)
    rows = {row: [won.model_copy(update={"test": (gain, -0.1)})] * n for row, gain in gains.items()}
    rows |= {"random": [cell((1, 4))] * n, "untrained": [lost] * n, "always TTL": ([lost] * 2 + [won] * 2) * n}
    found = result(tasks, **rows)
    found = found.model_copy(update={"policies": {"shipped": "hash"}, "tasks": dict.fromkeys(tasks)})
    aim = aim_of(found, list(tasks), verdicts(found, list(tasks)))
    assert isinstance(aim, Aim)
    return aim


def test_seeds_of_one_task_are_no_independent_witnesses() -> None:
    found = result(mine=[cell((1, 1))] * 4, random=[cell((0, 4))] * 4)
    against = versus(found, "mine", "random", TASKS)
    assert against is not None
    assert against.p == pytest.approx(0.5)  # two tasks, not four situations


def test_a_policy_that_speaks_of_one_task_is_compared_there_alone() -> None:
    found = result(mine=[cell((1, 1))] * 4, random=[cell((1, 4))] * 4, paper=[cell((0, 1))] * 2)
    assert verdicts(found, TASKS)["paper"].tasks == ("a",)
    against = versus(found, "mine", "paper", TASKS)
    assert against is not None
    assert (against.tasks, against.difference, against.ratio) == (("a",), 1.0, None)
    assert versus(found, "mine", "paper", ["b"]) is None


def test_picks_keep_seeds_within_their_task() -> None:
    each = np.array([[0.0, 0.0], [1.0, 1.0]])  # all chance is between tasks: 0, ½ or 1
    means = Picks(2, 2).means(each)
    assert set(means) == {0.0, 0.5, 1.0}
    assert means.mean() == pytest.approx(0.5, abs=0.02)
    cells = result(mine=[cell((1, 2))] * 4).cells["mine"]
    assert values(cells, TASKS, SEEDS, first_share).tolist() == [[0.5] * 2] * 2


def test_sign_flips_by_hand() -> None:
    """Of the eight ways to sign 1, 1, 1 two are as extreme; without differences there is nothing to tell."""
    assert sign_flips(np.array([1.0, 1.0, 1.0])) == pytest.approx(0.25)
    assert sign_flips(np.zeros(5)) == 1.0
    assert sign_flips(np.array([1.0])) == 1.0

"""Rewards of several adapters: a few answer for all, and each answers once."""

import random
from pathlib import Path
from typing import Any

import pytest

from agent.loop import answers, reward
from agent.loop import counts as counts_of
from cao.types import AdaptedModel, Example, Item
from tests.agent.loop.rewards import BAR, COUNTED, PLAIN, Model, N, adapter, bench


class Members:
    """Stands for ``evaluate``: adapters that change all answers by ``harm`` and differ from each other by ``apart``."""

    def __init__(self, harm: float, apart: float = 1e-3, stops_at: int = 10**9) -> None:
        self.harm, self.apart, self.stops_at = harm, apart, stops_at
        self.asked: dict[str, int] = {}

    def __call__(self, task: Any, examples: list[Example], adapted: AdaptedModel, *rest: Any, **_: Any) -> list[Item]:
        [member] = adapted.members
        if member is None:
            return Model()(task, examples)
        if sum(self.asked.values()) >= self.stops_at:
            raise KeyboardInterrupt
        self.asked[member.sha256] = self.asked.get(member.sha256, 0) + len(examples)
        losses = []
        for example in examples:
            shared = random.Random(example.id).gauss(1, 0.1)
            losses.append(1 + self.harm * shared + random.Random(example.id + member.sha256).gauss(0, self.apart))
        return [Item(id=e.id, correct=True, loss=loss, gold_nll=loss) for e, loss in zip(examples, losses, strict=True)]


NAMES = [f"m{i}" for i in range(8)]
EIGHT = AdaptedModel(members=tuple(adapter(name) for name in NAMES), method="sum_logprobs")


@pytest.mark.parametrize(
    ("harm", "apart", "config", "asked", "told"),
    [
        (0.5, 1e-3, {}, dict.fromkeys(NAMES[:2], 24), "dropped after 24 of 96 questions by 2 of 8 adapters: "),
        (0.5, 1e-3, {"racing": False}, dict.fromkeys(NAMES, N), "not accepted: "),
        (0.5, 0.5, {}, dict.fromkeys(NAMES, 24), "dropped after 24 of 96 questions: "),  # two do not stand for all
        (0.5, 1e-3, {"accept": "any"}, dict.fromkeys(NAMES, N), "not accepted: "),
        (-0.5, 1e-3, {}, dict.fromkeys(NAMES, N), "accepted: "),
    ],
)
def test_two_alike_members_show_that_all_are_hopeless(
    harm: float,
    apart: float,
    config: dict[str, Any],
    asked: dict[str, int],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at, models = bench(tmp_path, **config), Members(harm, apart)
    monkeypatch.setattr(answers, "evaluate", models)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    measured = reward.race_reward(at, EIGHT, best.items, "attempt-1", BAR)
    assert models.asked == asked
    verdict = reward.judge(at, best.items, measured, BAR)
    assert reward.explain(verdict, measured).startswith(told)
    assert verdict.accepted == (harm < 0)
    assert (measured.members, measured.of) == (len(asked), 8)
    assert len(measured.items) == asked["m0"]
    counts = counts_of.summary(counts_of.counted(counts_of.counted(None, best), measured)).model_dump()
    assert counts["answered"] == N + asked["m0"]
    assert counts["member_answers"] == N + sum(asked.values())
    assert counts["member_answers_saved"] == 8 * N - sum(asked.values())


def test_a_candidate_dropped_by_two_members_can_be_measured_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, models = bench(tmp_path, racing_check=True), Members(0.5)
    monkeypatch.setattr(answers, "evaluate", models)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    measured = reward.race_reward(at, EIGHT, best.items, "attempt-1", BAR)
    assert models.asked == dict.fromkeys(NAMES, N)
    assert (measured.members, measured.agrees) == (2, True)
    counts = counts_of.summary(counts_of.counted(None, measured))
    assert counts.member_answers == 48  # what racing alone would have asked
    assert reward.race_reward(at, EIGHT, best.items, "attempt-1", BAR) == measured  # though all answers are kept now


@pytest.mark.parametrize("killed_after", [24, 48, 72])
def test_a_kill_while_members_answer_costs_one_members_block(
    killed_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, killed, rest = bench(tmp_path), Members(-0.5, stops_at=killed_after), Members(-0.5)
    monkeypatch.setattr(answers, "evaluate", killed)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    with pytest.raises(KeyboardInterrupt):
        reward.race_reward(at, EIGHT, best.items, "attempt-1", BAR)
    monkeypatch.setattr(answers, "evaluate", rest)
    resumed = reward.race_reward(at, EIGHT, best.items, "attempt-1", BAR)
    assert sum(rest.asked.values()) == 8 * N - killed_after
    (tmp_path / "new").mkdir()
    assert reward.race_reward(bench(tmp_path / "new"), EIGHT, best.items, "attempt-1", BAR) == resumed


def test_an_adapter_answers_once_whatever_it_is_combined_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, models = bench(tmp_path), Members(-0.5)
    monkeypatch.setattr(answers, "evaluate", models)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    first = reward.race_reward(at, EIGHT, best.items, "attempt-1", BAR)
    again = bench(tmp_path)  # as after a kill
    others = EIGHT.model_copy(update={"method": "max_confidence", "members": EIGHT.members[::-1]})
    second = reward.race_reward(again, others, best.items, "attempt-2", BAR)
    alone = reward.measure_part(again, AdaptedModel(members=EIGHT.members[3:4]), "reward", "attempt-3")
    assert models.asked == dict.fromkeys(NAMES, N)
    (tmp_path / "new").mkdir()
    fresh = reward.race_reward(bench(tmp_path / "new"), others, best.items, "attempt-2", BAR)
    assert fresh.items == second.items
    counts = counts_of.summary(counts_of.counted(counts_of.counted(None, best), first, second, alone)).model_dump()
    assert counts == {
        **COUNTED,
        **{"asked": 4 * N, "answered": 4 * N, "reused": 9 * N},
        **{"member_answers": 9 * N, "member_answers_saved": 9 * N},
    }

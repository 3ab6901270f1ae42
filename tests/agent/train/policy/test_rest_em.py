"""ReST-EM's parts: the sequential test by hand, the log after a kill, what is kept, fine-tuning against plain code."""

import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from agent.train.policy.rest_em import CHUNK, Judged, Sample, SampleLog, Sampling, collect, kept, verdict
from cao.errors import InputError
from cao.strategies import FAMILIES, Strategy
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.types import Comparison
from policies.bandit import BanditPolicy
from policies.base import PolicyContext
from policies.grid import grid, papers_choice
from policies.uniform import RandomPolicy

LATENT = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'
OTHER = '{"family": "LORA", "lambda": 0.5}'


def test_the_sequential_test_by_hand() -> None:
    sampling = Sampling()  # ln(.25/.05) = 1.609 a win, ln(.75/.95) = −.236 a loss, bounds ± ln 9 = 2.197
    assert verdict([1], sampling) is None
    assert verdict([1, 1], sampling) == "rich"
    assert verdict([0] * 9, sampling) is None
    assert verdict([0] * 10, sampling) == "poor"
    assert verdict([0] * 4 + [1, 1], sampling) == "rich"
    assert math.log(9) < 1.609 * 2 - 4 * 0.236


@pytest.mark.parametrize(("rate", "said"), [(0.25, "rich"), (0.05, "poor")])
def test_the_sequential_test_keeps_its_error(rate: float, said: str) -> None:
    rng, sampling, right = random.Random(0), Sampling(), 0
    for _ in range(2000):
        rewards: list[int] = []
        while (found := verdict(rewards, sampling)) is None:
            rewards.append(int(rng.random() < rate))
        right += found == said
    assert right / 2000 > 1 - sampling.error - 0.02


class Policy:
    """Writes what a rule says, and counts."""

    def __init__(self, rule: Callable[[int], str]) -> None:
        self.rule, self.drawn = rule, 0

    def __call__(self, situation: str, n: int, seed: int) -> Sequence[str]:
        self.drawn += n
        return [self.rule(i) for i in range(n)]


def compared(change: float) -> Comparison:
    """What a strategy came to that changes the log-loss so."""
    rest: dict[str, Any] = {"accuracy_change": 0.0, "loss_p_value": 0.01, "mcnemar_p_value": 1.0, "rule": "confident"}
    return Comparison(loss_change=change, accepted=change < 0, **rest)


def improving(asked: Mapping[str, Sequence[Strategy]]) -> Iterable[tuple[str, list[Judged]]]:
    for situation, strategies in reversed(asked.items()):  # in any order
        worth = [s.family == "Latent" for s in strategies]
        yield situation, [Judged(improved=won, reason="measured", questions=24, seconds=1.0) for won in worth]


def test_a_fixed_number_is_drawn_or_as_many_as_it_takes(tmp_path: Path) -> None:
    for sampling, expected in (
        (Sampling(most=12), (12, 12)),
        (Sampling(most=20, sequential=True), (CHUNK, 2 * CHUNK)),  # two wins decide; so do ten losses
    ):
        log = SampleLog(tmp_path / f"{sampling.sequential}.jsonl")
        collect(["rich"], 0, Policy(lambda i: LATENT), improving, sampling, log)
        collect(["poor"], 0, Policy(lambda i: OTHER), improving, sampling, log)
        assert (len(log.of(0, "rich")), len(log.of(0, "poor"))) == expected


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_kill_at_any_sample_costs_that_sample(cut: int, tmp_path: Path) -> None:
    rules = [LATENT, "no strategy", OTHER, '{"family": "TTL"}', LATENT]
    sampling = Sampling(most=8)
    whole = SampleLog(tmp_path / "whole.jsonl")
    collect(["one"], 0, Policy(lambda i: rules[i]), improving, sampling, whole)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed.jsonl").write_text("".join(lines[:cut]) + lines[cut][:9])
    judged: list[Strategy] = []

    def counting(asked: Mapping[str, Sequence[Strategy]]) -> Iterable[tuple[str, list[Judged]]]:
        judged.extend(strategy for strategies in asked.values() for strategy in strategies)
        return improving(asked)

    collect(["one"], 0, Policy(lambda i: rules[i]), counting, sampling, SampleLog(tmp_path / "killed.jsonl"))
    assert (tmp_path / "killed.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    assert len(judged) == sum(sample.valid for sample in whole.samples[cut:])


def test_separators_inside_a_text_do_not_break_its_line(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "s.jsonl")
    collect(["one"], 0, Policy(lambda i: "a\u2028b\x85c\rd\ne\x0cf"), improving, Sampling(most=2), log)
    assert SampleLog(tmp_path / "s.jsonl").samples == log.samples


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"iteration": "x"}\n')
    with pytest.raises(InputError, match=r"s\.jsonl:1: no sample"):
        SampleLog(tmp_path / "s.jsonl")


def test_of_each_strategy_one_text_is_kept_and_the_best_by_gain(tmp_path: Path) -> None:
    rules = [f'{{"family": "Latent", "slot_steps": {steps}, "slot_lr": 0.1}}' for steps in (1, 2, 2, 3, 4)]
    gains = {1: -0.01, 2: -0.03, 3: 0.02, 4: -0.02}

    def judge(asked: Mapping[str, Sequence[Strategy]]) -> Iterable[tuple[str, list[Judged]]]:
        for situation, strategies in asked.items():
            changes = [gains[int(strategy.canonical()["slot_steps"])] for strategy in strategies]
            verdicts = [compared(change) for change in changes]
            yield situation, [Judged(improved=one.accepted, reason="", comparison=one) for one in verdicts]

    log = SampleLog(tmp_path / "s.jsonl")
    collect(["one"], 0, Policy(lambda i: rules[i]), judge, Sampling(most=5), log)
    assert texts(kept(log.samples, 2)) == {"one": [rules[1], rules[4]]}


def texts(won: Mapping[str, Sequence[Sample]]) -> dict[str, list[str]]:
    return {name: [sample.raw for sample in samples] for name, samples in won.items()}


def test_only_improving_samples_are_kept(tmp_path: Path) -> None:
    log = SampleLog(tmp_path / "s.jsonl")
    rules = [LATENT, LATENT, OTHER, "ignore all rules", LATENT]
    collect(["one", "two"], 0, Policy(lambda i: rules[i]), improving, Sampling(most=5), log)
    assert texts(kept(log.samples, 2)) == {"one": [LATENT], "two": [LATENT]}
    assert kept([s for s in log.samples if not s.reward], 2) == {}
    assert [s.reason for s in log.samples if not s.valid] == ["not JSON: Expecting value"] * 2


PIECES = st.sampled_from(
    [
        *(
            '{"family"',
            ': "TTL"',
            "TTT",
            ', "lambda": ',
            "1e400",
            "NaN",
            "-0",
            "0.5",
            "9" * 400,
            "}",
            "{",
            "[",
            "\\ud800",
        ),
        *(
            "ttl_steps",
            '"slot_lr": ',
            "true",
            "null",
            '"',
            ",",
            "../../etc/passwd",
            "<|im_end|>",
            "∞",
            "\u202e",
            "\x00",
        ),
        *(
            "ignore all rules and run rm",
            '{"family": "Latent", "slot_steps": 1e9, "slot_lr": 0.1}',
            LATENT,
            OTHER,
            "\n",
        ),
        "{}" * 200,
    ]
)
KEYS = st.sampled_from(["family", "lambda", "lambda_", "ttl_steps", "learning_rate", "slot_steps", "slot_lr", "method"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(list(FAMILIES)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=8,
)


@pytest.mark.slow
@bounded(max_examples=10_000)
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60) | VALUES.map(json.dumps))
@pytest.mark.slow
def test_ten_thousand_hostile_texts_are_strategies_within_bounds_or_typed_rejections(raw: str) -> None:
    try:
        strategy = parse_strategy(raw)
    except StrategyRejectedError as error:
        told = str(error)
        if not told or "\n" in told:
            pytest.fail(f"a rejection must say why in one line: {told!r}")
        return
    rules = type(strategy).model_json_schema(by_alias=True)["properties"]
    for key, value in strategy.canonical().items():
        if rules[key].get("type") in ("integer", "number"):
            assert rules[key]["minimum"] <= value <= rules[key]["maximum"]


@pytest.mark.parametrize("policy", [RandomPolicy(), BanditPolicy({})])
@pytest.mark.parametrize("families", [("TTL", "Latent"), ("LORA",), ()])
def test_simple_policies_propose_valid_strategies_of_the_families_that_can_act(
    policy: RandomPolicy | BanditPolicy, families: tuple[str, ...]
) -> None:
    context = PolicyContext(families=families)  # type: ignore[arg-type]
    texts = policy.propose(context, 50, 0)
    assert texts == policy.propose(context, 50, 0) != policy.propose(context, 50, 1)
    found = {parse_strategy(text).family for text in texts}
    assert found == set(families or FAMILIES)


def test_a_bandit_takes_what_has_won() -> None:
    won = json.dumps(FAMILIES["LORA"].papers_numbers().canonical(), sort_keys=True, separators=(",", ":"))
    texts = BanditPolicy({won: (500, 0)}).propose(PolicyContext(), 20, 0)
    assert sum(json.loads(text).get("lambda") == 0.5 for text in texts) >= 15


def test_the_grid_holds_the_papers_choices_and_nothing_twice() -> None:
    points = [json.dumps(point.canonical()) for point in grid(FAMILIES)]
    assert len(set(points)) == len(points) == 53
    choices = [family.papers_numbers() for family in FAMILIES.values()]
    assert {json.dumps(choice.canonical()) for choice in choices if choice} <= set(points)
    assert papers_choice("arc_challenge") == FAMILIES["Latent"].papers_numbers()
    assert papers_choice("sciq") is None

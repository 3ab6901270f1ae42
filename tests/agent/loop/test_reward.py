"""Rewards: blocks that survive a kill, measurements that are not repeated, hopeless candidates that are dropped."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.config import make_config
from agent.loop import answers, reward
from agent.loop import counts as counts_of
from cao.errors import InputError
from cao.tasks.base import Task
from cao.types import AdaptedModel, AnswerRule, ChoiceLikelihood, Example, Item, LatentSettings
from tests.agent.loop.rewards import BAR, COUNTED, PLAIN, QUESTIONS, Model, N, adapter, bench
from tools.evaluate import load_items
from tools.evaluate.answer_rule import ranked
from tools.evaluate.priors import LABELS, NEUTRAL

OTHER = AdaptedModel(members=(adapter("x"),))


def test_a_kill_inside_an_evaluation_costs_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed, rest, whole = Model(stops_at=48), Model(), Model()
    monkeypatch.setattr(answers, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        reward.measure_part(bench(tmp_path), PLAIN, "reward", "base")
    assert not (tmp_path / "items" / "base.jsonl").exists()
    monkeypatch.setattr(answers, "evaluate", rest)
    resumed = reward.measure_part(bench(tmp_path), PLAIN, "reward", "base")
    assert (killed.asked, rest.asked) == (48, N - 48)
    monkeypatch.setattr(answers, "evaluate", whole)
    (tmp_path / "new").mkdir()
    assert reward.measure_part(bench(tmp_path / "new"), PLAIN, "reward", "base").items == resumed.items
    assert load_items(tmp_path / "items" / "base.jsonl") == resumed.items


def test_the_same_measurement_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    monkeypatch.setattr(answers, "evaluate", model)
    first = reward.measure_part(bench(tmp_path), OTHER, "reward", "generated")
    moved = AdaptedModel(members=(adapter("x", "elsewhere"),), note="another strategy's words")
    second = reward.measure_part(bench(tmp_path), moved, "reward", "aligned")
    assert model.asked == N
    assert second.items == first.items
    counts = counts_of.summary(counts_of.counted(counts_of.counted(None, first), second)).model_dump()
    assert counts == {
        **COUNTED,
        **{"asked": 2 * N, "answered": N, "saved": N, "member_answers": N, "member_answers_saved": N},
    }
    reward.measure_part(bench(tmp_path), OTHER, "test", "test-adapted")
    assert model.asked == N + 30


def test_what_changes_an_answer_changes_the_key(tmp_path: Path) -> None:
    for name, content in (("one", b"1"), ("two", b"2"), ("one again", b"1")):
        (tmp_path / name).write_bytes(content)
    pair = (adapter("x"), adapter("y"))

    def key(adapted: AdaptedModel, **changes: Any) -> str:
        return answers.measurement_key(SimpleNamespace(**{**vars(bench(tmp_path)), **changes}), adapted, "reward")  # type: ignore[arg-type]

    def routed(name: str) -> AdaptedModel:
        return AdaptedModel(members=pair, method="avg_sim_score", centroids=str(tmp_path / name))

    assert key(routed("one")) == key(routed("one again"))
    shuffled = SimpleNamespace(reward=QUESTIONS[::-1], test=[])
    different = [
        *(key(PLAIN), key(OTHER), key(AdaptedModel(members=pair, method="max_confidence"))),
        *(key(AdaptedModel(members=pair[::-1], method="max_confidence")), key(routed("one")), key(routed("two"))),
        *(key(AdaptedModel(latent=LatentSettings(slot_steps=k, slot_lr=0.1))) for k in (1, 2)),
        *(
            key(PLAIN, protocol="generate"),
            key(PLAIN, lm=SimpleNamespace(sha256="b", dtype="float32")),
            key(PLAIN, lm=SimpleNamespace(sha256="base", dtype="bfloat16")),
            key(PLAIN, splits=shuffled),
        ),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("damage", ["{", "", '{"id": "other", "correct": true, "loss": 1.0}\n', "half a block"])
def test_kept_answers_that_do_not_fit_are_asked_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model()
    monkeypatch.setattr(answers, "evaluate", model)
    whole = reward.measure_part(bench(tmp_path), PLAIN, "reward", "base")
    kept = tmp_path / "items" / f"kept-{whole.key}.jsonl"
    half = "".join(kept.read_text().splitlines(keepends=True)[:30])
    kept.write_text(half if damage == "half a block" else damage)
    assert reward.measure_part(bench(tmp_path), PLAIN, "reward", "base").items == whole.items
    assert model.asked == 2 * N


@pytest.mark.parametrize(("racing", "harm", "asked"), [(True, 0.5, 24), (False, 0.5, N), (True, -0.5, N)])
def test_only_a_hopeless_candidate_is_dropped_and_only_if_wanted(
    racing: bool, harm: float, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = bench(tmp_path, racing=racing)
    monkeypatch.setattr(answers, "evaluate", Model())
    best = reward.measure_part(at, PLAIN, "reward", "base")
    model = Model(harm)
    monkeypatch.setattr(answers, "evaluate", model)
    measured = reward.race_reward(at, OTHER, best.items, "attempt-1", BAR)
    verdict = reward.judge(at, best.items, measured, BAR)
    assert model.asked == len(measured.items) == asked
    assert load_items(tmp_path / "items" / "attempt-1.jsonl") == measured.items
    assert verdict.accepted == (harm < 0)
    said = reward.explain(verdict, measured)
    assert said.startswith(f"dropped after 24 of {N} questions: accuracy +0.0 points, log-loss +0.") == (asked < N)
    assert counts_of.summary(counts_of.counted(counts_of.counted(None, best), measured)).model_dump() == {
        **{**COUNTED, "asked": 2 * N, "answered": N + asked, "saved": N - asked, "dropped_early": int(asked < N)},
        **{"member_answers": N + asked, "member_answers_saved": N - asked},
    }
    again = reward.race_reward(at, OTHER, best.items, "attempt-1", BAR)
    assert again == measured  # as after a kill behind the last block
    assert model.asked == asked


@pytest.mark.parametrize("turns", [False, True])
def test_a_dropped_candidate_can_be_measured_to_the_end_to_check_the_verdict(
    turns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, model = bench(tmp_path, racing_check=True, accept="confident"), Model()
    monkeypatch.setattr(answers, "evaluate", model)
    best = reward.measure_part(at, PLAIN, "reward", "base")

    def candidate(*given: Any, **options: Any) -> list[Item]:
        better = turns and given[1][0].id != QUESTIONS[0].id  # bad in the first block, best of all behind it
        return Model(-0.9 if better else 0.5)(*given, **options)

    monkeypatch.setattr(answers, "evaluate", candidate)
    measured = reward.race_reward(at, OTHER, best.items, "attempt-1", BAR)
    assert len(measured.items) == len(load_items(tmp_path / "items" / "attempt-1.jsonl")) == 24
    assert measured.agrees is not turns
    counts = counts_of.counted(counts_of.counted(None, best), measured)
    assert (counts["checked"], counts["agreed"]) == (1, int(not turns))
    assert counts["measured"][measured.key] == 24  # what racing alone would have asked


def test_routed_adapters_are_put_on_for_fewer_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    monkeypatch.setattr(answers, "evaluate", lambda *given, **_: blocks.append(len(given[1])) or Model()(*given))
    (tmp_path / "routes").write_bytes(b"1")
    several = AdaptedModel(members=(adapter("x"), adapter("y")), method="avg_sim_score")
    routed = several.model_copy(update={"centroids": str(tmp_path / "routes")})
    reward.measure_part(bench(tmp_path), OTHER, "reward", "attempt-1")
    reward.measure_part(bench(tmp_path), routed, "reward", "attempt-2")
    assert blocks == [24, 24, 24, 24, 48, 48]


def test_each_routed_question_loses_the_prior_of_the_adapter_that_answered_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def routed_answers(task: Task, examples: list[Example], *_: object, **__: object) -> list[Item]:
        likelihoods = (ChoiceLikelihood(-3.0, 1, 1), ChoiceLikelihood(-4.0, 1, 1))
        items = [ranked(example, [-3.0, -4.0]) for example in examples]
        kept = [{"choices": likelihoods, "member": int(item.id.removeprefix("q")) % 2} for item in items]
        return [item.model_copy(update=known) for item, known in zip(items, kept, strict=True)]

    def prior_of(model: AdaptedModel, member: int, *_: object, **__: object) -> dict[str, float]:
        return {" a": -1.0, " b": -1.0 - 5 * member}

    monkeypatch.setattr(answers, "evaluate", routed_answers)
    monkeypatch.setattr(answers, "prior_of", prior_of)
    (tmp_path / "routes").write_bytes(b"1")
    at = bench(tmp_path)
    at.task = Task(name="t", title="T", source="here", load=list)
    at.lm.profile, at.splits.support, at.priors = SimpleNamespace(answer_style="text"), [], ("none", "choice")
    routed = AdaptedModel(
        members=(adapter("x"), adapter("y")),
        method="avg_sim_score",
        centroids=str(tmp_path / "routes"),
        answer_rule=AnswerRule(prior="choice", strength=1.0, length="none"),
    )
    items = reward.measure_part(at, routed, "reward", "attempt-1").items
    assert [item.scores for item in items[:2]] == [(-2.0, -3.0), (-2.0, 2.0)]
    assert [item.choice for item in items] == [0, 1] * (N // 2)


def test_a_choice_is_read_behind_as_many_neutral_questions_in_every_part(tmp_path: Path) -> None:
    at = bench(tmp_path)
    at.task = Task(name="t", title="T", source="here", load=list)
    at.lm.profile = SimpleNamespace(answer_style="text")
    few = [Example(id="q", question="q", choices=("one", "two"), answer=0)]
    many = [Example(id=f"r{n}", question="q", choices=(f"a{n}", f"b{n}"), answer=0) for n in range(LABELS)]
    numbers = []
    for reward_part, test_part in ((few, few), (few, many), (many, few)):
        at.splits.reward, at.splits.test = reward_part, test_part
        numbers.append(answers.neutral_of(at))
    assert numbers == [len(NEUTRAL), len(NEUTRAL), 1]  # so that no reward depends on what is tested


def test_racing_is_configured(tmp_path: Path) -> None:
    config = make_config(None, {"task": "t"}, [])
    assert (config.racing, config.racing_error) == (True, 0.05)
    assert not make_config(None, {"task": "t"}, ["racing=false"]).racing
    for wrong in ("racing_error=0", "racing_error=0.6", "racing=maybe"):
        with pytest.raises(InputError, match="racing"):
            make_config(None, {"task": "t"}, [wrong])


def test_kept_answers_took_no_time_and_say_nothing_of_the_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a second answer rule, or after a kill: what is still to be asked takes what was planned for it."""
    at = bench(tmp_path)
    monkeypatch.setattr(answers, "evaluate", Model())
    best = reward.measure_part(at, PLAIN, "reward", "base").items
    monkeypatch.setattr(answers, "evaluate", Model(stops_at=24))
    with pytest.raises(KeyboardInterrupt):
        reward.measure_part(at, OTHER, "reward", "generated")
    monkeypatch.setattr(answers, "evaluate", Model())
    monkeypatch.setattr(reward, "part_seconds", lambda speed, task, part, protocol: 1.0 * len(part))
    at.clock = SimpleNamespace(left=131.0)  # 72 s for the rest, and twice 30 s for the test part: 132 s
    measured = reward.race_reward(at, OTHER, best, "generated", BAR)
    assert "take about 132 s, 131 s are left" in measured.dropped
    at.clock = SimpleNamespace(left=132.0)
    assert not reward.race_reward(at, OTHER, best, "generated", BAR).dropped

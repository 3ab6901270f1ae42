"""Rewards: blocks that survive a kill, measurements that are not repeated, hopeless candidates that are dropped."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.budget.clock import Clock
from agent.config import RunConfig, make_config
from agent.loop import counts as counts_of
from agent.loop import reward
from agent.loop.state import NO_TIME
from agent.record import wording
from agent.record.events import evaluations_text
from agent.record.report import write_report
from agent.record.schema import Run, RunRecord
from agent.run import main
from agent.trace import main as trace
from cao.errors import InputError
from cao.types import AdaptedModel, AdapterRef, Example, Item, LatentSettings
from tests.agent import run_folders as made
from tests.agent.killing import killed
from tests.agent.run.test_run import arguments, result, run, strategies
from tools.evaluate import HiddenCache, load_items

N = 96
QUESTIONS = [Example(id=f"q{i}", question=f"question {i}", choices=("a", "b"), answer=0) for i in range(N)]


class Model:
    """Stands for ``evaluate``: answers by a rule, and remembers what it was asked."""

    def __init__(self, harm: float = 0.0, stops_at: int = 10**9) -> None:
        self.harm, self.stops_at, self.asked = harm, stops_at, 0

    def __call__(self, task: Any, examples: list[Example], *rest: Any, **options: Any) -> list[Item]:
        if self.asked >= self.stops_at:
            raise KeyboardInterrupt
        self.asked += len(examples)
        noise = [random.Random(example.id).gauss(0, 0.1) for example in examples]
        return [
            Item(id=e.id, correct=True, loss=1 + self.harm * (1 + by)) for e, by in zip(examples, noise, strict=True)
        ]


def bench(folder: Path, **config: Any) -> Any:
    return SimpleNamespace(
        config=RunConfig(task="t", **config),
        folder=folder,
        task=SimpleNamespace(name="t"),
        splits=SimpleNamespace(reward=QUESTIONS, test=QUESTIONS[:30]),
        protocol="likelihood",
        lm=SimpleNamespace(sha256="base", dtype="float32"),
        clock=Clock(),
        speed=NO_TIME,
        encoder=None,
        states=HiddenCache(),
        progress=lambda *_: None,
    )


def adapter(sha256: str, path: str = "p") -> AdapterRef:
    return AdapterRef(path=path, sha256=sha256, base_sha256="base", rank=4)


COUNTED = {
    **{"asked": 0, "answered": 0, "saved": 0, "dropped_early": 0, "reused": 0, "checked": 0, "agreed": 0},
    **{"member_answers": 0, "member_answers_saved": 0},
}
PLAIN = AdaptedModel()
OTHER = AdaptedModel(members=(adapter("x"),))


def test_a_kill_inside_an_evaluation_costs_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed, rest, whole = Model(stops_at=48), Model(), Model()
    monkeypatch.setattr(reward, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        reward.measure_part(bench(tmp_path), PLAIN, "reward", "base")
    assert not (tmp_path / "items" / "base.jsonl").exists()
    monkeypatch.setattr(reward, "evaluate", rest)
    resumed = reward.measure_part(bench(tmp_path), PLAIN, "reward", "base")
    assert (killed.asked, rest.asked) == (48, N - 48)
    monkeypatch.setattr(reward, "evaluate", whole)
    (tmp_path / "new").mkdir()
    assert reward.measure_part(bench(tmp_path / "new"), PLAIN, "reward", "base").items == resumed.items
    assert load_items(tmp_path / "items" / "base.jsonl") == resumed.items


def test_the_same_measurement_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    monkeypatch.setattr(reward, "evaluate", model)
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
        return reward.measurement_key(SimpleNamespace(**{**vars(bench(tmp_path)), **changes}), adapted, "reward")  # type: ignore[arg-type]

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
    monkeypatch.setattr(reward, "evaluate", model)
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
    monkeypatch.setattr(reward, "evaluate", Model())
    best = reward.measure_part(at, PLAIN, "reward", "base")
    model = Model(harm)
    monkeypatch.setattr(reward, "evaluate", model)
    measured = reward.race_reward(at, OTHER, best.items, "attempt-1")
    verdict = reward.judge(at, best.items, measured)
    assert model.asked == len(measured.items) == asked
    assert load_items(tmp_path / "items" / "attempt-1.jsonl") == measured.items
    assert verdict.accepted == (harm < 0)
    said = reward.explain(verdict, measured)
    assert said.startswith(f"dropped after 24 of {N} questions: accuracy +0.0 points, log-loss +0.") == (asked < N)
    assert counts_of.summary(counts_of.counted(counts_of.counted(None, best), measured)).model_dump() == {
        **{**COUNTED, "asked": 2 * N, "answered": N + asked, "saved": N - asked, "dropped_early": int(asked < N)},
        **{"member_answers": N + asked, "member_answers_saved": N - asked},
    }
    again = reward.race_reward(at, OTHER, best.items, "attempt-1")
    assert again == measured  # as after a kill behind the last block
    assert model.asked == asked


@pytest.mark.parametrize("turns", [False, True])
def test_a_dropped_candidate_can_be_measured_to_the_end_to_check_the_verdict(
    turns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, model = bench(tmp_path, racing_check=True, accept="confident"), Model()
    monkeypatch.setattr(reward, "evaluate", model)
    best = reward.measure_part(at, PLAIN, "reward", "base")

    def candidate(*given: Any, **options: Any) -> list[Item]:
        better = turns and given[1][0].id != QUESTIONS[0].id  # bad in the first block, best of all behind it
        return Model(-0.9 if better else 0.5)(*given, **options)

    monkeypatch.setattr(reward, "evaluate", candidate)
    measured = reward.race_reward(at, OTHER, best.items, "attempt-1")
    assert len(measured.items) == len(load_items(tmp_path / "items" / "attempt-1.jsonl")) == 24
    assert measured.agrees is not turns
    counts = counts_of.counted(counts_of.counted(None, best), measured)
    assert (counts["checked"], counts["agreed"]) == (1, int(not turns))
    assert counts["measured"][measured.key] == 24  # what racing alone would have asked


def test_routed_adapters_are_put_on_for_fewer_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    monkeypatch.setattr(reward, "evaluate", lambda *given, **_: blocks.append(len(given[1])) or Model()(*given))
    (tmp_path / "routes").write_bytes(b"1")
    several = AdaptedModel(members=(adapter("x"), adapter("y")), method="avg_sim_score")
    routed = several.model_copy(update={"centroids": str(tmp_path / "routes")})
    reward.measure_part(bench(tmp_path), OTHER, "reward", "attempt-1")
    reward.measure_part(bench(tmp_path), routed, "reward", "attempt-2")
    assert blocks == [24, 24, 24, 24, 48, 48]


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
    monkeypatch.setattr(reward, "evaluate", models)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    measured = reward.race_reward(at, EIGHT, best.items, "attempt-1")
    assert models.asked == asked
    verdict = reward.judge(at, best.items, measured)
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
    monkeypatch.setattr(reward, "evaluate", models)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    measured = reward.race_reward(at, EIGHT, best.items, "attempt-1")
    assert models.asked == dict.fromkeys(NAMES, N)
    assert (measured.members, measured.agrees) == (2, True)
    counts = counts_of.summary(counts_of.counted(None, measured))
    assert counts.member_answers == 48  # what racing alone would have asked
    assert reward.race_reward(at, EIGHT, best.items, "attempt-1") == measured  # though all answers are kept now


@pytest.mark.parametrize("killed_after", [24, 48, 72])
def test_a_kill_while_members_answer_costs_one_members_block(
    killed_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, killed, rest = bench(tmp_path), Members(-0.5, stops_at=killed_after), Members(-0.5)
    monkeypatch.setattr(reward, "evaluate", killed)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    with pytest.raises(KeyboardInterrupt):
        reward.race_reward(at, EIGHT, best.items, "attempt-1")
    monkeypatch.setattr(reward, "evaluate", rest)
    resumed = reward.race_reward(at, EIGHT, best.items, "attempt-1")
    assert sum(rest.asked.values()) == 8 * N - killed_after
    (tmp_path / "new").mkdir()
    assert reward.race_reward(bench(tmp_path / "new"), EIGHT, best.items, "attempt-1") == resumed


def test_an_adapter_answers_once_whatever_it_is_combined_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, models = bench(tmp_path), Members(-0.5)
    monkeypatch.setattr(reward, "evaluate", models)
    best = reward.measure_part(at, PLAIN, "reward", "base")
    first = reward.race_reward(at, EIGHT, best.items, "attempt-1")
    again = bench(tmp_path)  # as after a kill
    others = EIGHT.model_copy(update={"method": "max_confidence", "members": EIGHT.members[::-1]})
    second = reward.race_reward(again, others, best.items, "attempt-2")
    alone = reward.measure_part(again, AdaptedModel(members=EIGHT.members[3:4]), "reward", "attempt-3")
    assert models.asked == dict.fromkeys(NAMES, N)
    (tmp_path / "new").mkdir()
    fresh = reward.race_reward(bench(tmp_path / "new"), others, best.items, "attempt-2")
    assert fresh.items == second.items
    counts = counts_of.summary(counts_of.counted(counts_of.counted(None, best), first, second, alone)).model_dump()
    assert counts == {
        **COUNTED,
        **{"asked": 4 * N, "answered": 4 * N, "reused": 9 * N},
        **{"member_answers": 9 * N, "member_answers_saved": 9 * N},
    }


def test_racing_is_configured(tmp_path: Path) -> None:
    config = make_config(None, {"task": "t"}, [])
    assert (config.racing, config.racing_error) == (True, 0.05)
    assert not make_config(None, {"task": "t"}, ["racing=false"]).racing
    for wrong in ("racing_error=0", "racing_error=0.6", "racing=maybe"):
        with pytest.raises(InputError, match="racing"):
            make_config(None, {"task": "t"}, [wrong])


def raced_run(run_id: str) -> dict[str, Any]:
    record = made.record(run_id)
    record["trials"][1] |= {
        "reason": "dropped after 24 of 96 questions: accuracy -4.2 points, log-loss +0.1020; hardly low enough",
        "dropped_after": 24,
        "reward": made.reward(0.25, 1.9, 24),
        "comparison": made.comparison(-0.0417, 0.1020, 0.99, False),
    }
    counts = {"asked": 288, "answered": 216, "saved": 72, "dropped_early": 1, "reused": 24, "checked": 1, "agreed": 1}
    record["evaluations"] = counts
    return record


def test_people_are_told_what_was_dropped_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made.write_run(tmp_path, "one", raced_run("one"))
    assert trace(["show", "one", "--out", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    told = (
        "216 of 288 reward questions were answered, 25 % saved; 1 attempt dropped early. Full evaluation agrees about "
        "1 of 1 dropped. 24 answers came from kept scores or hidden states, without a forward pass."
    )
    assert told in shown
    assert "dropped after 24 of 96 questions" in shown
    html = write_report(path).read_text(encoding="utf-8")
    assert told in html
    assert "25.0 % of 24" in html
    assert "2: Latent(slot_steps=5, slot_lr=0.1), dropped: 41.66 %" in html  # the start's 45.83 % and its change
    record = RunRecord.model_validate(raced_run("one"))
    by_two = raced_run("two")
    by_two["trials"][1]["dropped_members"] = 2
    by_two["evaluations"] |= {"answered": 288, "saved": 0, "member_answers": 408, "member_answers_saved": 392}
    assert "25.0 % of 24, 2 adapters" in write_report(made.write_run(tmp_path, "two", by_two)).read_text("utf-8")
    assert evaluations_text(RunRecord.model_validate(by_two)).startswith(
        "All 288 reward questions of the measurements were answered; 1 attempt dropped early. Adapter by adapter it "
        "was 408 of 800 answers, 49 % saved."
    )
    assert [wording.outcome(trial) for trial in record.trials] == ["no strategy", "dropped", "accepted"]
    assert evaluations_text(Run(run_id="old")) == ""


HARMFUL = {"family": "Latent", "slot_steps": 20, "slot_lr": 1.0}
GENTLE = {"family": "Latent", "slot_steps": 1, "slot_lr": 1e-5}


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"question": f"How much is {a} plus {b}?", "choices": [str(a + b), str(a + b + 1), str(a * b)], "answer": 0}
        for a in range(2, 12)
        for b in range(10, 20)
    ]
    path = tmp_path_factory.mktemp("task") / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


MORE = ("--max-attempts", "2", "--reward", "72", "--set", "threads=1")


def test_racing_and_full_evaluation_come_to_the_same_verdicts(
    sums: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(sums, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, HARMFUL, GENTLE), *MORE)
    raced, full = run(capsys, argv), run(capsys, [*argv, "--set", "racing=false"])
    assert raced["evaluations"]["dropped_early"] >= 1
    assert raced["evaluations"]["asked"] == full["evaluations"]["asked"] == full["evaluations"]["answered"] == 3 * 72
    assert raced["status"] == full["status"]
    answered = 72
    for attempt, (one, other) in enumerate(zip(raced["trials"], full["trials"], strict=True), 1):
        assert one["accepted"] == other["accepted"]
        few, all_of_them = (
            load_items(tmp_path / "runs" / record["run_id"] / "items" / f"attempt-{attempt}.jsonl")
            for record in (raced, full)
        )
        assert few == all_of_them[: len(few)]
        assert one["reward"]["n"] == len(few) == (one["dropped_after"] or 72)
        answered += len(few)
    assert raced["evaluations"]["answered"] == answered
    assert raced["trials"][0]["reason"].startswith(f"dropped after {raced['trials'][0]['dropped_after']} of 72")
    assert raced["evaluations"]["reused"] == raced["evaluations"]["answered"] - 72  # Latent changes no adapter
    assert raced["overhead_share"] <= 1


@pytest.mark.slow
def test_kill_9_between_two_blocks_and_resume_gives_the_undisturbed_result(
    sums: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(sums, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, HARMFUL, GENTLE), *MORE)
    killed(lambda: any((tmp_path / "runs").glob("*/items/kept-*.jsonl")), main, argv)
    [folder] = (tmp_path / "runs").iterdir()
    [kept] = folder.glob("items/kept-*.jsonl")
    before = kept.read_text()
    resumed = run(capsys, [*argv, "--resume", folder.name])
    assert kept.read_text().startswith(before)
    assert result(resumed) == result(run(capsys, argv))

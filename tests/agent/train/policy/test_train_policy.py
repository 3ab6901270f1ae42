"""The policy's training on a tiny random model: what it leaves, what a kill costs, what it refuses."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.config import make_config
from agent.train.engine.settings import EngineSettings
from agent.train.policy import situations as situations_module
from agent.train.policy.rest_em import Judged, Sample, SampleLog
from agent.train.policy.rollouts import Plan, lay_out, open_rollouts
from agent.train.policy.run import within_budget
from agent.train.policy.settings import Settings
from agent.train.policy.situations import Situation, Wanted
from agent.train_policy import main
from cao.files import canonical_json
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.progress import silent
from cao.strategies import FAMILIES, Strategy
from cao.tasks import get_task
from cao.tasks.splits import part, practice
from policies.grid import grid
from policies.registry import build_policy
from policies.trained import find_policy
from tests.agent.killing import killed
from tests.agent.train.policy.tiny_policy_training import call, judging, measured, train

pytestmark = pytest.mark.slow

FEW = ("--support", "4", "--reward", "6", "--seeds", "1", "--epochs", "1", "--accept", "any")


def arguments(model: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--tasks", "arc_easy,openbookqa", "--held-out", "sciq", "--iterations", "2", "--samples", "6", *FEW),
        *(
            "--set",
            f"model_path={model}",
            "--set",
            "threads=1",
            "--set",
            "test=4",
            "--offline",
            "--out",
            str(out),
            *more,
        ),
    ]


@pytest.fixture(autouse=True)
def easy() -> Iterator[None]:
    with judging(measured):
        yield


def the_folder(out: Path) -> Path:
    [folder] = out.glob("policy-*")
    return folder


@pytest.mark.slow
def test_a_training_leaves_samples_weights_and_a_report_and_is_never_done_twice(
    roomy_model_folder: Path, tmp_path: Path, tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "pretrained" / "policies.json"
    index.parent.mkdir()
    pretrained = ("--set", f"pretrained={index.parent}")
    argv = arguments(roomy_model_folder, tmp_path / "runs", "--install", "--json", *pretrained)
    code, out, err = call(main, argv)
    assert code == 0, err
    report = json.loads(out)
    folder = the_folder(tmp_path / "runs")
    samples = SampleLog(folder / "samples.jsonl").samples
    assert len(samples) == 3 * (6 + 6 + 5)  # three situations; two iterations, and a look at what came of the last
    assert report["costs"]["drawn"] == len(samples)
    assert report["costs"]["naive_questions"] == len(samples) * 6
    distinct = {(s.situation, canonical_json(s.strategy)) for s in samples if s.judged and s.judged.questions}
    assert (report["costs"]["measured"], report["costs"]["grid_measured"]) == (len(distinct), 0)
    assert {s.situation for s in samples} == {"practice-arc_easy-0", "practice-openbookqa-0", "sciq-0"}
    assert all(bool(s.reward) <= s.valid for s in samples)
    weights = load_adapter(folder / "policy-2", tiny_lm.sha256)
    losses = json.loads((folder / "fine-tuning-2-losses.json").read_text())
    assert len(losses) == int(weights.provenance["steps"])
    assert all(loss > 0 for loss in losses)
    shipped = find_policy(tiny_lm.sha256, index)
    assert shipped is not None
    assert shipped.tensors.keys() == weights.tensors.keys()
    assert all(bool((shipped.tensors[name] == weights.tensors[name]).all()) for name in weights.tensors)
    policy: Any = build_policy("local", PolicySettings(adapter=str(folder / "policy-2")), lm=tiny_lm, offline=True)
    assert policy.adapter_sha256 == adapter_sha256(shipped) == report["policy_sha256"]
    held_out = (tmp_path / "runs").glob("situations/*/adapters/*")
    assert len(list(held_out)) == 0  # a strategy's weights are not kept
    monkeypatch.setattr(situations_module.nodes, "apply", None)
    assert call(main, argv)[1] == out  # nothing is drawn or measured again
    page = (folder / "report.md").read_text()
    assert "| 2 | held out |" in page
    assert "trained by ReST-EM" in page
    assert "Iteration 0 is the untrained policy." in page
    monkeypatch.setattr(situations_module, "CODE", situations_module.CODE + 1)
    code, _, err = call(main, argv)
    assert code == 2
    assert "3 situations of 3 changed since this training began" in err
    assert SampleLog(folder / "samples.jsonl").samples == samples


def untrained(samples: list[Sample]) -> list[tuple[str, int, str]]:
    """The first sampling's, in an order of their own: situations that were cut off are judged last."""
    return sorted((s.situation, s.number, s.raw) for s in samples if s.iteration == 0)


def test_what_costs_too_much_is_not_tried_and_earns_nothing() -> None:
    numbers = FAMILIES["TTL"].papers_numbers()
    asked = [numbers.model_copy(update={"ttl_steps": steps}) for steps in (5, 6)]  # batches of four
    tried: list[object] = []

    def judge(asked: Mapping[str, Sequence[Strategy]]) -> Iterator[tuple[str, list[Judged]]]:
        for name, strategies in asked.items():
            tried.extend(strategies)
            yield name, [Judged(improved=True, reason="measured", questions=6) for _ in strategies]

    latent = FAMILIES["Latent"].papers_numbers()
    [(_, worth)] = within_budget(judge, 20)({"one": [asked[1], latent, asked[0]]})
    assert [one.improved for one in worth] == [False, True, True]
    assert worth[0].reason == "not tried: trains on 24 prompts, the budget is 20"
    assert tried == [latent, asked[0]]
    [(_, worth)] = within_budget(judge, None)({"one": asked})
    assert all(one.improved for one in worth)


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds(roomy_model_folder: Path, tmp_path: Path) -> None:
    values = {"task": "practice", "model_path": str(roomy_model_folder), "support": 4, "reward": 6, "offline": True}
    config = make_config(None, values, ["test=4", "threads=1"])
    wanted = (Wanted("arc_easy", 0, True), Wanted("openbookqa", 0, True), Wanted("sciq", 0, False))
    found = []
    for workers in (1, 2):
        plan = Plan(tmp_path / str(workers), config, wanted)
        situations = lay_out(plan, silent)
        asked = {name: grid(["Latent"])[:3] for name in situations}
        with open_rollouts(EngineSettings(), workers, plan, situations, silent) as rollouts:
            rollouts.prepare(list(situations), silent)
            for part, some in (("reward", asked), ("test", {"sciq-0": asked["sciq-0"]})):
                found.append({name: [j.comparison for j in worth] for name, worth in rollouts.judge(some, part)})
            again = dict(rollouts.judge(asked))
        assert all(one.cached for worth in again.values() for one in worth)
    assert found[:2] == found[2:]
    assert all(change is not None for worth in found[0].values() for change in worth)


@pytest.mark.slow
def test_rewards_of_other_settings_are_not_those_of_this_situation(roomy_model_folder: Path, tmp_path: Path) -> None:
    given = {"task": "sciq", "model_path": str(roomy_model_folder), "dtype": "float32", "offline": True}

    def laid_out(**more: object) -> Situation:
        plan = Plan(tmp_path, make_config(None, {**given, **more}, []), (Wanted("sciq", 0, practice=False),))
        return lay_out(plan, silent)["sciq-0"]

    plain = laid_out()
    adapter = save_adapter(tmp_path / "store", plain.bench.lm.fresh_lora(0), "tiny").path
    carrying, other_style = laid_out(start_adapter=adapter), laid_out(profile={"answer_style": "text"})
    assert len({plain.key, carrying.key, other_style.key}) == 3
    assert plain.bench.carried is None
    assert carrying.bench.carried is not None  # what the loop starts from, as in a run


def test_a_landscape_is_another_training() -> None:
    config = make_config(None, {"task": "sciq"}, [])
    plain, measured = (Settings(config=config, landscape=landscape) for landscape in (False, True))
    assert plain.folder != measured.folder
    assert "landscape" not in plain.claim()  # folders of versions that did not say it go on


@pytest.mark.slow
def test_kill_9_at_a_sample_and_again_gives_the_undisturbed_samples(roomy_model_folder: Path, tmp_path: Path) -> None:
    argv = arguments(roomy_model_folder, tmp_path / "killed")
    logs = (tmp_path / "killed").glob
    killed(lambda: any(log.read_text().count("\n") >= 3 for log in logs("policy-*/samples.jsonl")), train, argv)
    before = (the_folder(tmp_path / "killed") / "samples.jsonl").read_text()
    assert call(main, argv)[0] == 0
    after = (the_folder(tmp_path / "killed") / "samples.jsonl").read_text()
    assert after.startswith(before[: before.rindex("\n") + 1])
    assert call(main, arguments(roomy_model_folder, tmp_path / "whole"))[0] == 0
    whole = SampleLog(the_folder(tmp_path / "whole") / "samples.jsonl").samples
    found = SampleLog(the_folder(tmp_path / "killed") / "samples.jsonl").samples
    assert untrained(found) == untrained(whole)
    assert len(untrained(found)) == 18


def test_where_nothing_improves_the_command_says_what_to_do(roomy_model_folder: Path, tmp_path: Path) -> None:
    with judging(lambda trial: False):
        code, _, err = call(main, arguments(roomy_model_folder, tmp_path, "--sequential"))
    assert code == 2
    assert "nothing to learn from; give more --tasks, --seeds or --samples" in err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--tasks", "sciq"), "sciq cannot be learnt on and held out at once"),
        (("--tasks", "mmlu_logic"), "mmlu_logic sets nothing aside for training"),
        (("--tasks", "arc_eazy"), "did you mean arc_easy"),
        (("--samples", "0"), "--samples 0: Input should be greater than or equal to 1"),
        (("--budget", "0"), "--budget 0: Input should be"),
        (("--set", "ttl.peft=dora"), "ttl is for a single run; in practice TTL is measured as the policy writes it"),
        (("--set", "minutes=5"), "minutes is for a single run"),
        (("--workers", "0"), "--workers 0: Input should be"),
        (("--model", "gpt-17"), "unknown model 'gpt-17'"),
    ],
)
def test_what_is_refused(more: tuple[str, ...], told: str, roomy_model_folder: Path, tmp_path: Path) -> None:
    code, out, err = call(main, arguments(roomy_model_folder, tmp_path, *more))
    assert (code, out) == (2, "")
    assert told in err


def test_practice_is_from_the_train_part_alone_and_disjoint() -> None:
    task = get_task("arc_easy")
    trained = {example.id for example in part(task, "train")}
    found = practice(task, support=16, reward=32, seed=3)
    support, reward = ({example.id for example in some} for some in (found.support, found.reward))
    assert (len(support), len(reward), found.test) == (16, 32, [])
    assert support | reward <= trained
    assert not support & reward
    assert practice(task, support=16, reward=32, seed=3) == found != practice(task, support=16, reward=32, seed=4)


def test_a_damaged_memory_of_rewards_is_named(roomy_model_folder: Path, tmp_path: Path) -> None:
    argv = arguments(roomy_model_folder, tmp_path, "--samples", "1", "--iterations", "1")
    assert call(main, argv)[0] == 0
    path = next(tmp_path.glob("situations/practice-arc_easy-*/rewards.jsonl"))
    path.write_text('{"strategy": 5}\n')
    shutil.rmtree(the_folder(tmp_path))
    code, _, err = call(main, argv)
    assert code == 2
    assert f"{path}: damaged" in err.replace("\n", "")

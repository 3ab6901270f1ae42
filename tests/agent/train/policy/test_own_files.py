"""A user's own files among the tasks that a policy practises on."""

import json
from pathlib import Path

import pytest

from agent.config import make_config
from agent.train.policy.rollouts import Plan, lay_out
from agent.train.policy.settings import Settings
from agent.train.policy.situations import Wanted
from agent.train_policy import main
from cao.errors import InputError
from cao.progress import silent
from cao.tasks import get_task
from cao.tasks.splits import practice
from tests.agent.train.policy.test_train_policy import FEW, the_folder
from tests.agent.train.policy.tiny_policy_training import call, judging, measured


def questions(path: Path, count: int = 40, **more: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"prompt": f"Does bird {n} fly?", "options": {"A": "no", "B": "yes"}, "label": "AB"[n % 2]} | more
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(*tasks: Path, held_out: tuple[str, ...] = ()) -> Settings:
    config = make_config(None, {"task": "arc_easy"}, [])
    return Settings(config=config, tasks=tuple(map(str, tasks)), held_out=held_out)


def test_all_of_a_file_is_practised_on_and_sides_are_disjoint(tmp_path: Path) -> None:
    found = practice(get_task(str(questions(tmp_path / "birds.jsonl"))), support=10, reward=30, seed=1)
    support, reward = ({example.id for example in some} for some in (found.support, found.reward))
    assert (len(support), len(reward), found.test) == (10, 30, [])
    assert not support & reward


def test_files_that_cannot_be_practised_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"too few for 20 \+ 60"):
        practice(get_task(str(questions(tmp_path / "few.jsonl"))), support=20, reward=60, seed=0)
    with pytest.raises(InputError, match="has no answers"):
        practice(get_task(str(questions(tmp_path / "none.jsonl", label=None))), support=1, reward=1, seed=0)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = questions(tmp_path / "a" / "birds.jsonl"), questions(tmp_path / "b" / "birds.jsonl")
    with pytest.raises(InputError, match="are tasks of one name; rename a file"):
        asked(one, other).check()
    with pytest.raises(InputError, match="learnt on and held out at once"):
        asked(one, held_out=(str(one),)).check()
    asked(one, held_out=("arc_easy",)).check()


def test_a_file_with_other_content_is_another_training(tmp_path: Path) -> None:
    path = questions(tmp_path / "birds.jsonl")
    before = asked(path).folder
    assert asked(path).folder == before
    questions(path, 41)
    assert asked(path).folder != before
    assert "files" not in Settings(config=make_config(None, {"task": "arc_easy"}, [])).claim()


@pytest.mark.slow
def test_a_file_of_written_answers_is_asked_as_in_a_run(roomy_model_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} and 1?", "answer": str(n + 1)} for n in range(40)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = (Wanted(str(tmp_path / "sums.jsonl"), 0, practice=True),)
    given = {"task": "sums", "model_path": str(roomy_model_folder), "support": 4, "reward": 6, "offline": True}
    tasks, keys = {}, {}
    for chat in ("auto", "off"):
        plan = Plan(tmp_path / "situations", make_config(None, {**given, "chat": chat}, []), wanted)
        [situation] = lay_out(plan, silent).values()
        assert situation.bench.protocol == "generate"
        tasks[chat], keys[chat] = situation.bench.task, situation.key
    example = situation.bench.splits.reward[0]
    by_template, as_it_is = (tasks[chat].ask(example) for chat in ("auto", "off"))
    assert example.question in by_template
    assert by_template != as_it_is
    assert keys["auto"] != keys["off"]


@pytest.mark.slow
def test_a_policy_learns_on_a_file_and_is_measured_on_another(roomy_model_folder: Path, tmp_path: Path) -> None:
    learn, hold_out = questions(tmp_path / "learn.jsonl"), questions(tmp_path / "measure.jsonl")
    argv = ["--tasks", str(learn), "--held-out", str(hold_out), "--iterations", "1", "--samples", "1", *FEW]
    argv += ["--set", f"model_path={roomy_model_folder}", "--set", "test=4", "--offline", "--out", str(tmp_path / "o")]
    with judging(measured):
        code, _, err = call(main, argv)
    assert code == 0, err
    names = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "o" / "situations").glob("*-*")}
    assert names == {"practice-learn-0", "measure-0"}
    assert set(json.loads((the_folder(tmp_path / "o") / "config.json").read_text())["files"]) == {
        str(learn),
        str(hold_out),
    }

"""``--offline`` opens no socket: real commands, each watched from the start of its process by an audit hook."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cao.command_line import TRACING
from cao.tasks import get_task
from cao.tasks.splits import part
from tests.agent import tiny_pretrained
from tests.agent.run.tiny_runs import TTL, echo_rows, strategies, write_rows
from tests.agent.stream.test_watch import SUMS
from tests.agent.train.generator.tiny_consolidation import command as consolidation
from tests.agent.train.policy.test_train_policy import arguments as training

ROOT = Path(__file__).parents[2]
WATCH = ROOT / "tests" / "watched"
NOBODY = "http://127.0.0.1:9"
"""Where nobody listens: whoever asks the hub or sends a trace all the same is noticed, and nothing leaves."""
TEMPTING = {
    "HF_ENDPOINT": NOBODY,
    "LANGSMITH_ENDPOINT": NOBODY,
    **dict.fromkeys(TRACING, "true"),
    "LANGSMITH_API_KEY": "lsv2-none",
    "OPENAI_API_KEY": "sk-none",
}

pytestmark = pytest.mark.slow


def watched(folder: Path, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command; returns how it ended and what it asked of the network."""
    seen = folder / "sockets.txt"
    seen.unlink(missing_ok=True)
    asleep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "LANG"))}
    path = os.pathsep.join([str(WATCH), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        **{"capture_output": True, "text": True, "timeout": 500, "check": False, "cwd": folder},
        env={**asleep, **TEMPTING, **environment, "PYTHONPATH": path, "CAO_TESTS_SOCKETS": str(seen)},
    )
    return ended, seen.read_text().splitlines()


def quietly(folder: Path, *words: str) -> str:
    """Run a command that must open no socket; returns its standard output."""
    ended, sockets = watched(folder, *words)
    assert ended.returncode == 0, ended.stderr
    assert sockets == []
    return ended.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    write_rows(folder / "questions.jsonl", echo_rows())
    prompts = [row["question"] for row in echo_rows()]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts[:8]))
    (folder / "windows.jsonl").write_text(json.dumps(prompts[:16]) + "\n")
    return folder


@pytest.fixture(scope="module")
def model(roomy_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The tiny model, with trained parts for it."""
    lm, shelf = tiny_pretrained.load(roomy_model_folder), tmp_path_factory.mktemp("pretrained")
    layout = tiny_pretrained.layout_of(lm)
    tiny_pretrained.shelve(shelf, lm, {"full": torch.zeros(layout.layers, layout.length)}, {"full": ["piqa"]})
    chosen = ["--model", tiny_pretrained.MODEL, "--set", f"model_path={roomy_model_folder}"]
    return [*chosen, "--set", f"pretrained={shelf}", "--offline"]


def test_a_run_and_what_is_made_of_it(place: Path, model: list[str]) -> None:
    sizes = ["--support", "8", "--reward", "12", "--test", "12", "--max-attempts", "2", "--accept", "any"]
    asked = ["--task", "arc_easy", "--policy", "local", "--describer", "cached", *sizes, *model]
    run = json.loads(quietly(place, "agent.run", *asked, "--json"))
    assert (run["policy"], run["describer"]) == ("local", "cached")
    assert run["trials"]
    quietly(place, "agent.trace", "show", run["run_id"])
    quietly(place, "agent.trace", "html", run["run_id"])
    quietly(place, "agent.trace", "replay", run["run_id"], "--from", "decide")
    assert run["adapters"]["aligned"]


@pytest.fixture(scope="module")
def accepting(place: Path) -> list[str]:
    """Arguments of a run that takes what training on the prompts makes."""
    chosen = ["--policy", "fixed", "--set", f"policy_settings.strategy_file={strategies(place, TTL)}"]
    return [*chosen, "--support", "8", "--reward", "12", "--test", "12", "--max-attempts", "1", "--accept", "any"]


def test_what_a_run_adopted_is_handed_over(place: Path, model: list[str], accepting: list[str]) -> None:
    pytest.importorskip("peft")
    run = json.loads(quietly(place, "agent.run", "--task", "questions.jsonl", *accepting, *model, "--json"))
    assert run["adopted"]
    quietly(place, "agent.export", run["run_id"], "--to", "handed", "--offline")
    told = quietly(place, "agent.verify", "handed", "--base", _path(model), "--prompts", "prompts.jsonl", "--offline")
    assert "acts" in told


def test_a_watch_that_adapts(place: Path, model: list[str]) -> None:
    own = list({example.group: example.prompt for example in part(get_task("piqa"), "support")}.values())[:60]
    new = [
        {"question": f"{text} {n}", "choices": ["Who", "a bird"], "answer": n % 2} for n, text in enumerate(SUMS[:45])
    ]
    (place / "stream.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*own, *new]))
    plan = strategies(place, TTL)
    (place / "watch.toml").write_text(
        f'model = "{tiny_pretrained.MODEL}"\nmodel_path = "{_path(model)}"\npolicy = "fixed"\nmax_attempts = 1\n'
        f'accept = "any"\npolicy_settings.strategy_file = "{plan}"\n'
    )
    asked = ["--stream", "stream.jsonl", "--reference", "piqa", "--window", "32", "--adapt", "--config", "watch.toml"]
    told = quietly(place, "agent.watch", *asked, "--offline", "--out", "watched")
    assert "known from now on as drift-1" in told
    assert list((place / "watched").rglob("run.json"))


def test_trainings(place: Path, roomy_model_folder: Path) -> None:
    """Of the generator and the aligner, and of the policy, where every strategy that could be measured counts."""
    quietly(place, "agent.consolidate", *consolidation(roomy_model_folder, place / "trained"))
    quietly(place, "tests.agent.train.policy.tiny_command", *training(roomy_model_folder, place / "policies"))


def _path(model: list[str]) -> str:
    return next(word for word in model if word.startswith("model_path=")).partition("=")[2]


def test_the_stages_alone(place: Path, model: list[str]) -> None:
    quietly(place, "agent.drift", "--reference", "questions.jsonl", "--windows", "windows.jsonl", "--offline")
    quietly(place, "agent.generate", "--prompts", "prompts.jsonl", "--out", "made", *model)
    quietly(place, "eval.score", "--task", "questions.jsonl", "--limit", "4", *model[:4], "--offline")


def test_the_doctor(place: Path) -> None:
    quietly(place, "agent.doctor", "--offline")


def test_a_run_of_a_hub_model_that_is_not_here_ends_without_asking(place: Path) -> None:
    ended, sockets = watched(place, "agent.run", "--task", "questions.jsonl", "--model", "nobody/nothing", "--offline")
    assert (ended.returncode, sockets) == (3, []), ended.stderr


def test_a_run_whose_plan_says_that_nothing_leaves_asks_nobody_online_either(place: Path, model: list[str]) -> None:
    sizes = ["--support", "8", "--reward", "12", "--test", "12", "--max-attempts", "1", "--json"]
    words = ["agent.run", "--task", "questions.jsonl", *sizes, *(word for word in model if word != "--offline")]
    untraced = dict.fromkeys(TRACING, "false")
    plan, _ = watched(place, *words, "--dry-run", **untraced)
    assert json.loads(plan.stdout)["leaves_this_machine"] == []
    ended, sockets = watched(place, *words, **untraced)
    assert ended.returncode == 0, ended.stderr
    assert [line for line in sockets if not line.startswith(("socket.__new__", "socket.bind (('::1', 0),)"))] == []


def test_what_is_online_is_seen(place: Path) -> None:
    _, sockets = watched(place, "agent.doctor")
    assert any("socket.connect" in line and "127.0.0.1" in line for line in sockets)

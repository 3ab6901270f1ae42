"""What a plan says that a run sends to other machines."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.budget.leaving import Leaving, leaving
from agent.config import make_config
from agent.run import main
from cao.command_line import TRACING
from cao.tasks import get_task
from cao.tasks.base import Task

KEY = "sk-secret-q7Rz1VbX9tLw"
VARIABLES = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT", *TRACING)
OPENAI, HUB = "https://api.openai.com", "https://huggingface.co"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and nothing else that the plan goes by."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def sent(task: Task | None = None, attempts: int = 4, settings: Any = None, **keys: Any) -> list[Leaving]:
    task = task or get_task("gsm8k")
    config = make_config(None, {"task": task.name, **keys, "policy_settings": settings or {}}, [])
    found = leaving(config, task, attempts)
    assert KEY not in json.dumps(found)
    return found


def asked(found: list[Leaving]) -> list[tuple[str, str]]:
    return [(each["to"], each["why"]) for each in found]


def test_the_default_run_sends_nothing() -> None:
    assert sent() == []
    assert sent(policy="random") == []


@pytest.mark.parametrize(("keys", "whom"), [({"policy": "openai"}, "policy"), ({"describer": "openai"}, "describer")])
def test_a_server_is_named_with_its_model(keys: dict[str, str], whom: str) -> None:
    assert asked(sent(**keys)) == [(OPENAI, f"the {whom} gpt-4o-mini")]
    other = {"base_url": "https://llm.example.org:8443/v1/of/mine", "openai_model": "large"}
    assert asked(sent(settings=other, **keys)) == [("https://llm.example.org:8443", f"the {whom} large")]
    for here in ("http://127.0.0.1:8000/v1", "http://localhost:8000/v1", "http://[::1]:8000/v1"):
        assert sent(settings={"base_url": here}, **keys) == []
    assert sent(offline=True, **keys) == []  # such a run is refused


def test_the_describer_is_sent_answers_of_the_train_part_alone() -> None:
    [ours] = sent(describer="openai")
    assert ours["what"].startswith("8 questions of the train part with their answers")
    [small] = sent(get_task("mmlu_logic"), describer="openai")
    assert small["what"].startswith("8 support prompts, no answer")


def test_the_policy_is_sent_what_it_is_let_see() -> None:
    [every] = sent(policy="openai")
    for part in ("accuracy and log-loss", "drift verdict", "what was measured of prompts", "; no question;"):
        assert part in every["what"]
    assert "may name words" not in every["what"]
    [less] = sent(policy="openai", policy_sees_drift=False, policy_sees_measurements=False, describer="local")
    assert "drift" not in less["what"]
    assert "measured" not in less["what"]
    assert "may name words of the questions" in less["what"]
    assert sent(policy="openai", attempts=0) == []  # without labels nobody is asked for a strategy


def test_the_hub_is_named_with_what_is_asked_of_it(monkeypatch: pytest.MonkeyPatch, tiny_model_folder: Path) -> None:
    qwen = "Qwen/Qwen2.5-0.5B-Instruct"
    assert asked(sent(model="qwen2.5-0.5b")) == [(HUB, f"the model {qwen}")]
    assert "this plan has" not in sent(model="qwen2.5-0.5b")[0]["what"]
    assert "this plan has asked" in sent(model="somebody/model")[0]["what"]
    assert sent(model="qwen2.5-0.5b", model_path=str(tiny_model_folder)) == []
    assert sent(model=str(tiny_model_folder)) == []
    own = {"model": "qwen2.5-1.5b"}
    assert asked(sent(settings=own)) == [(HUB, "the model Qwen/Qwen2.5-1.5B-Instruct")]
    assert asked(sent(settings=own, policy="random", describer="cached")) == []
    monkeypatch.setenv("HF_ENDPOINT", "https://user:secret@mirror.example.org/hub")
    assert asked(sent(model="somebody/model")) == [("https://mirror.example.org", "the model somebody/model")]
    monkeypatch.setenv("HF_ENDPOINT", "no address")
    assert asked(sent(model="somebody/model")) == [("the address in HF_ENDPOINT", "the model somebody/model")]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert sent(model="somebody/model") == []


def test_data_sets_of_the_hub_are_named_wherever_they_are_used() -> None:
    wanted = [(HUB, "the data set ttchungc/DivLogicEval")]
    assert asked(sent(get_task("divlogiceval"))) == wanted
    assert asked(sent(prompts="divlogiceval", reference=["divlogiceval", "piqa"])) == wanted
    assert sent(get_task("divlogiceval"), offline=True) == []


def test_tracing_that_the_environment_turns_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGCHAIN_TRACING", "true")
    assert asked(sent()) == [("https://api.smith.langchain.com", "tracing by LangSmith")]
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:1984")
    assert sent() == []
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "https://traces.example.org/api")
    assert asked(sent()) == [("https://traces.example.org", "tracing by LangSmith")]
    monkeypatch.setenv("LANGSMITH_TRACING_V2", "false")
    assert sent() == []


def test_the_plan_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--task", "gsm8k", "--dry-run"]
    assert main(argv) == 0
    assert "│ leaves this machine │ nothing " in capsys.readouterr().out
    assert main([*argv, "--policy", "openai", "--describer", "openai"]) == 0
    told = capsys.readouterr().out
    assert "to https://api.openai.com for the describer gpt-4o-mini: 8 questions" in told
    assert KEY not in told
    assert main([*argv, "--policy", "openai", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert asked(plan["leaves_this_machine"]) == [(OPENAI, "the policy gpt-4o-mini")]

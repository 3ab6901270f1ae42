"""The graph that LangGraph's server opens: its schemas, and runs from a plain configuration to the outcome."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent.config import RunConfig
from agent.record.reading import read_record
from cao.errors import InputError
from tests.agent.run.tiny_runs import LATENT, MIX, arguments, echo_rows, result, run, strategies, write_rows

ROOT = Path(__file__).resolve().parents[3]


def served() -> Any:
    """The graph that ``langgraph.json`` names, made as LangGraph's server makes it."""
    named = json.loads((ROOT / "langgraph.json").read_text())["graphs"]["cao"]
    file, _, function = named.partition(":")
    spec = importlib.util.spec_from_file_location("served", ROOT / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)()


def test_its_schemas_are_those_of_a_run() -> None:
    compiled = served()
    asked, told, context = (
        compiled.get_input_jsonschema(), compiled.get_output_jsonschema(), compiled.get_context_jsonschema(),
    )  # fmt: skip
    assert list(asked["properties"]) == ["task"]
    assert list(told["properties"]) == ["run_id", "status", "verdict", "folder", "report", "record"]
    assert set(context["properties"]) == set(RunConfig.model_fields)
    assert "required" not in context
    for schema in (asked, told, context, compiled.get_graph().to_json()):
        json.dumps(schema)


def test_it_is_the_loop_between_loading_and_the_report() -> None:
    edges = {(edge.source, edge.target) for edge in served().get_graph().edges}
    assert set(pairwise(["__start__", "load", "describe", "detect", "generate", "align", "choose", "decide"])) <= edges
    assert set(pairwise(["conclude", "report", "__end__"])) <= edges


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "echoes.jsonl", echo_rows())


def context(model: Path, out: Path, plan: Path, **more: object) -> dict[str, object]:
    return {
        "model": "qwen2.5-0.5b", "model_path": str(model), "policy": "fixed", "offline": True, "out": str(out),
        "support": 8, "reward": 12, "test": 12, "max_attempts": 2,
        "policy_settings": {"strategy_file": str(plan)}, **more,
    }  # fmt: skip


def test_a_run_comes_to_what_the_command_comes_to(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out = strategies(tmp_path, MIX, LATENT), tmp_path / "runs"
    given = context(tiny_model_folder, out, plan)
    steps = [next(iter(step)) for step in served().stream({"task": str(questions)}, context=given)]
    assert steps[:2] == ["load", "describe"]
    assert steps[-2:] == ["conclude", "report"]
    [folder] = out.iterdir()
    told = read_record(folder).model_dump(mode="json")
    argv = arguments(questions, tiny_model_folder, tmp_path / "other", plan, "--max-attempts", "2")
    assert result(told) == result(run(capsys, argv))
    assert (folder / "report.html").is_file()


def test_invoke_returns_the_outcome_and_a_new_process_goes_on(
    questions: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    given = context(tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT), max_attempts=1)
    thread: Any = {"configurable": {"thread_id": "one"}}
    first = served()
    saver = first.checkpointer = InMemorySaver()
    first.invoke({"task": str(questions)}, thread, context=given, interrupt_before=["decide"])
    second = served()  # a module of its own, which has loaded nothing
    second.checkpointer = saver
    outcome = second.invoke(None, thread, context=given)
    assert list(outcome) == ["run_id", "status", "verdict", "folder", "report", "record"]
    assert outcome["record"]["status"] == outcome["status"]
    assert outcome["record"]["run_id"] == outcome["run_id"] == Path(outcome["folder"]).name
    assert Path(outcome["report"]).is_file()
    json.dumps(outcome)


@pytest.mark.parametrize(
    ("asked", "given", "message"),
    [({"task": "no_such_task"}, {}, "no_such_task"), ({}, {"policy": "no_policy"}, "no_policy")],
)
def test_what_cannot_be_run_is_said_in_the_command_s_words(
    asked: dict[str, str], given: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        served().invoke(asked, context={**given, "out": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_runs_that_nobody_goes_on_with_keep_no_models_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.studio import served as file

    opened: Any = [object() for _ in range(6)]
    monkeypatch.setattr(file, "OPENED", {})
    for number in range(4):
        file.keep(str(number), opened[number])
    assert file.keep("0", opened[0]) is opened[0]  # at work, so that it waits no longer
    for number in (4, 5):
        file.keep(str(number), opened[number])
    assert list(file.OPENED) == ["3", "0", "4", "5"]

"""A stream of tasks: what its events say of who answered, forgetting by hand, the page, and a tiny model."""

import json
import tomllib
from pathlib import Path

import pytest

from cao.configuration import Machine
from cao.errors import InputError
from cao.profile_settings import ProfileSettings
from eval.continual import measure as measure_module
from eval.continual.arms import read_events
from eval.continual.measure import measure
from eval.continual.page import forgetting, page, write_page
from eval.continual.results import ARMS, ArmResult, ContinualResult, Segment, Step, Stream
from eval.continual.stream import lay
from eval.options import TablesOptions
from eval.tables import main
from tests.agent.tiny_pretrained import MODEL

SEGMENTS = tuple(Segment(task=task, first=2 * i, prompts=2) for i, task in enumerate(("a", "b", "a", "c")))


def arm(*held: tuple[bool, bool, bool], steps: tuple[Step, ...] = ()) -> ArmResult:
    """Held-out answers at each segment's end, one question of a, b and c each."""
    each = tuple({task: (right,) for task, right in zip("abc", rights, strict=True)} for rights in held)
    return ArmResult(steps=steps, right=(True, False) * 4, held=each)


def stream() -> Stream:
    never = arm(*[(True, False, False)] * 4)
    alarms = arm(
        (True, False, False),
        (False, True, False),
        (True, False, False),
        (False, True, True),
        steps=(
            Step(prompt=1, model="run:x", what="a: run x: improved"),
            Step(prompt=5, model="run:x", what="a: stored", stored=True),
        ),
    )
    return Stream(seed=0, segments=SEGMENTS, alarms=(1,), arms={"never": never, "alarms": alarms, "last window": never})


def result() -> ContinualResult:
    about = {"command": "c", "table": "continual", "measured": "2026-01-01", "model": "m", "model_sha256": "0" * 64}
    about |= {"device": "cpu", "dtype": "float32", "processor": "P", "reference": "r"}
    chance = {"a": 0.25, "b": 0.5, "c": 0.5}
    return ContinualResult.model_validate({**about, "window": 2, "held": 1, "chance": chance, "streams": [stream()]})


def test_forgetting_by_hand() -> None:
    one = stream()
    assert forgetting(one.arms["never"], one) == 0
    # a had 1, 0, 1 at the ends of segments 1 to 3 and 0 at the last; b had 1, 0 from segment 2 on, and 1 at the last
    assert forgetting(one.arms["alarms"], one) == (1 + 0) / 2


def test_events_say_who_answers_from_which_prompt_on(tmp_path: Path) -> None:
    events = [
        {"event": "start", "expected": ["r"]},
        {"event": "alarm", "prompt": 5, "since": 3, "statistic": 1.0},
        {"event": "window", "alarm": 5, "report": {}},
        {"event": "expect", "tasks": ["a"]},
        {
            "event": "adapter",
            "task": "a",
            "run": "runs/a/x",
            "adapter": None,
            "stored": False,
            "told": "run x: improved",
        },
        {"event": "alarm", "prompt": 20, "since": 18, "statistic": 1.0},
        {"event": "window", "alarm": 20, "report": {}},
        {"event": "expect", "tasks": ["b"]},
        {"event": "not_adapted", "task": "b", "reason": "run y: no improvement"},
        {"event": "alarm", "prompt": 40, "since": 39, "statistic": 1.0},
        {"event": "window", "alarm": 40, "report": {}},
        {"event": "no_change", "kind": "none"},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    alarms, steps = read_events(path, 8)
    assert alarms == [5, 20, 40]
    assert [(step.prompt, step.model) for step in steps] == [(13, "run:runs/a/x"), (28, "base")]
    assert steps[1].what == "b: run y: no improvement"


def test_a_stream_never_repeats_a_question_and_keeps_some_apart(tmp_path: Path) -> None:
    laid = lay(tmp_path, ("boolq", "piqa", "boolq"), 40, 20, 0)
    ids = [example.id for example in laid.asked]
    held = [example.id for each in laid.held.values() for example in each]
    assert len(ids) == 120
    assert len({*ids, *held}) == 120 + 40
    again = lay(tmp_path, ("boolq", "piqa", "boolq"), 40, 20, 0)
    assert [example.id for example in again.asked] == ids
    with pytest.raises(InputError, match="give fewer prompts"):
        lay(tmp_path, ("openbookqa",), 5000, 20, 0)


def test_the_page_is_made_from_the_figures_alone(tmp_path: Path) -> None:
    text = page(result())
    assert "| alarms | 50.0 (" in text
    assert "| +50.0 | 1 | 1 |" in text
    first = write_page(result(), tmp_path / "one").parent
    again = ContinualResult.model_validate_json((first / "continual.json").read_bytes())
    second = write_page(again, tmp_path / "two").parent
    for name in ("continual.md", "continual.json", "continual.svg", "continual-dark.svg"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_task_comes_again_in_a_stream_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", "starts", "--tasks", "boolq,piqa,boolq"]) == 2
    assert "only --table continual takes one that comes again" in capsys.readouterr().err


def watched(folder: Path) -> None:
    """The traces of a watch that is over: an alarm whose run was not accepted."""
    (folder / "watch").mkdir(parents=True)
    events = [
        {"event": "alarm", "prompt": 10},
        {"event": "window", "alarm": 10, "report": {}},
        {"event": "expect", "tasks": ["boolq"]},
        {"event": "not_adapted", "task": "boolq", "reason": "run x: no improvement"},
    ]
    (folder / "watch" / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "watched.json").write_text("{}")


def test_answers_and_trainings_go_on_where_they_were(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = TablesOptions(
        table="continual",
        tasks=("boolq", "piqa", "boolq"),
        segment=32,
        window=24,
        limit=4,
        seeds=(0,),
        out=tmp_path,
        model=MODEL,
        model_path=str(tiny_model_folder),
        dtype="float32",
        offline=True,
    )
    work = tmp_path / "work" / "seed-0"
    watched(work)
    first = measure(options, "c", lambda *_: None)
    assert first.streams[0].alarms == (10,)
    for each in ARMS:
        assert len(first.streams[0].arms[each].right) == 96
        assert [len(held["piqa"]) for held in first.streams[0].arms[each].held] == [4, 4, 4]
    trained = first.streams[0].arms["last window"].steps
    assert [step.prompt for step in trained] == [24, 48, 72]
    assert len({step.model for step in trained}) == 3
    assert first.streams[0].arms["alarms"].right == first.streams[0].arms["never"].right  # nothing was accepted
    for path in (work / "answers").glob("*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: len(lines) // 2]))
    assert measure(options, "c", lambda *_: None) == first
    others = {"window": 32, "pretrained": "elsewhere", "profile": ProfileSettings(answer_style="text")}
    for name, value in others.items():
        with pytest.raises(InputError, match=f"begun with another {name}"):
            measure(options.model_copy(update={name: value}), "c", lambda *_: None)


def test_settings_of_the_profile_reach_the_runs_and_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(machine: Machine) -> None:
        raise InputError(f"answers by {machine.profile.answer_style}")

    monkeypatch.setattr(measure_module, "load_model", told)
    given = {"table": "continual", "tasks": ("boolq", "piqa"), "segment": 32, "window": 24, "limit": 4, "seeds": (0,)}
    profile = ProfileSettings(answer_style="letter", lora_targets=("q_proj",), chat=False)
    options = TablesOptions.model_validate({**given, "out": tmp_path, "dtype": "float32", "profile": profile})
    watched(tmp_path / "work" / "seed-0")
    with pytest.raises(InputError, match="answers by letter"):
        measure(options, "c", lambda *_: None)
    stored = tomllib.loads((tmp_path / "work" / "seed-0" / "runs.toml").read_text())
    assert stored["profile"] == profile.model_dump(mode="json", exclude_none=True)

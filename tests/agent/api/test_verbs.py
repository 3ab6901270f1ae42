"""``detect``, ``generate`` and ``watch`` on a program's own data: the commands' results and words, and no output."""

import json
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from agent.api import options
from agent.config import RunConfig
from agent.drift import main as drift
from agent.generate import main as generate_command
from agent.handover import options as handover
from agent.stages import options as stages
from agent.stream import options as stream
from agent.watch import main as watch_command
from cao import detect, generate, watch
from cao.errors import InputError
from tests.agent import tiny_pretrained

PROMPTS = [f"How many wings have {n} birds?" for n in range(12)]


@pytest.mark.parametrize(
    ("taken", "settings", "apart"),
    [
        (options.AdaptOptions, RunConfig, {"task", "prompts"}),
        (options.DetectOptions, stages.DriftOptions, {"windows"}),
        (options.GenerateOptions, stages.GenerateOptions, {"prompts", "out"}),
        (options.WatchOptions, stream.WatchOptions, {"stream"}),
        (options.LoadOptions, handover.LoadOptions, {"folder"}),
    ],
)
def test_every_option_of_a_command_is_a_keyword(taken: Any, settings: Any, apart: set[str]) -> None:
    assert set(get_type_hints(taken)) == set(settings.model_fields) - apart


def test_windows_are_reported_on_as_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    assert drift(["--windows", str(path), "--window", "6", "--permutations", "99", "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = detect([PROMPTS[:6], PROMPTS[6:]], permutations=99)
    assert [report.model_dump(mode="json") for report in found] == printed
    assert detect(path, window=6, permutations=99) == found
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("argv", "keywords"),
    [
        (["--alpha", "2.0"], {"alpha": 2.0}),
        (["--window", "0"], {"window": 0}),
        (["--device", "tpu"], {"device": "tpu"}),
        (["--reference", "no_such"], {"reference": "no_such"}),
        (["--registry", "nowhere"], {"registry": Path("nowhere")}),
    ],
)
def test_errors_have_the_commands_words(
    argv: list[str], keywords: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w").write_text("a prompt\n")
    assert drift(["--windows", str(tmp_path / "w"), *argv]) == 2
    said = capsys.readouterr().err
    with pytest.raises(InputError) as raised:
        detect(tmp_path / "w", **keywords)
    assert said == f"error: {' '.join(str(raised.value).split())}\n"


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ([], "windows: holds no window"),
        (["a", ["b"]], "windows:entry 2: expected a prompt as on the lines before"),
        ([["a", {"colour": 1}]], "windows:entry 1, prompt 2: expected an object with 'prompt'"),
        ([{"question": "q", "correct": "yes"}], "windows:entry 1: 'correct' must be true or false"),
        (None, "windows: give a file, prompts or lists of prompts, and no NoneType"),
    ],
)
def test_a_wrong_window_is_named(windows: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        detect(windows)


def test_an_adapter_is_made_as_the_command_makes_it(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = tiny_pretrained.load(tiny_model_folder)
    layout = tiny_pretrained.layout_of(lm)
    import torch

    centre = 0.02 * torch.randn(layout.layers, layout.length, generator=torch.Generator().manual_seed(0))
    index = tiny_pretrained.shelve(tmp_path / "trained", lm, {"full": centre}, {"full": ["piqa"]})
    (tmp_path / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    base = {"model": tiny_pretrained.MODEL, "model_path": tiny_model_folder, "pretrained": index.parent}
    made = generate(PROMPTS, tmp_path / "made", offline=True, **base)
    assert (made.aligned, made.n, made.sources) == (True, len(PROMPTS), ("piqa",))
    assert capsys.readouterr().out == ""
    argv = ["--prompts", str(tmp_path / "prompts.txt"), "--out", str(tmp_path / "again"), "--offline", "--json"]
    argv += ["--model", tiny_pretrained.MODEL, "--set", f"model_path={tiny_model_folder}"]
    assert generate_command([*argv, "--set", f"pretrained={index.parent}"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["adapter"]["sha256"] == made.adapter.sha256
    assert set(printed) == set(made.model_dump())
    with pytest.raises(InputError, match="holds an earlier adapter"):
        generate(PROMPTS, tmp_path / "made", **base)
    with pytest.raises(InputError, match="prompts: holds no prompt"):
        generate([], tmp_path / "none", **base)


def test_a_stream_is_watched_as_the_command_watches_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    assert watch_command(["--stream", str(path), "--out", str(tmp_path / "w"), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps: list[Any] = []
    state = watch(path, out=tmp_path / "v", progress=steps.append)
    assert [step.data for step in steps if step.kind == "event"] == printed
    assert (state.prompts, state.ended) == (len(PROMPTS), True)
    assert capsys.readouterr().out == ""


def test_prompts_as_they_come_are_a_stream_that_goes_on(tmp_path: Path) -> None:
    steps: list[Any] = []
    first = watch(iter(PROMPTS[:5]), out=tmp_path / "w")
    second = watch(({"prompt": prompt} for prompt in PROMPTS[5:]), out=tmp_path / "w", progress=steps.append)
    assert (first.prompts, second.prompts) == (5, len(PROMPTS))
    assert "going on behind prompt 5" in [step.text for step in steps]
    with pytest.raises(InputError, match="holds a watch with another window"):
        watch(PROMPTS, out=tmp_path / "w", window=8)
    with pytest.raises(InputError, match="stream:entry 1: cannot be written as JSON"):
        watch([{"prompt": object()}], out=tmp_path / "x")
    with pytest.raises(InputError, match="stream:entry 1: expected"):
        watch([1], out=tmp_path / "x")  # type: ignore[list-item]

"""Durations, small numbers and the command line, in words."""

import shlex
from pathlib import Path

import pytest

from agent import run
from agent.config import RunConfig, make_config
from agent.record import commands, wording


def test_the_command_line_states_what_is_not_default() -> None:
    settings = {"temperature": 0.7, "top_k": 50, "openai_model": "1.5", "constrained": False, "base_url": None}
    config = {
        "task": "my file.jsonl",
        "max_attempts": 4,
        "seed": 3,
        "model_path": None,
        "out": "elsewhere",
        "offline": True,
        "policy_settings": settings,
    }
    line = commands.run_command_line(config)
    assert line == (
        "python -m agent.run --task 'my file.jsonl' --seed 3 --out elsewhere --offline "
        "--set policy_settings.temperature=0.7 --set 'policy_settings.openai_model=\"1.5\"' "
        "--set policy_settings.constrained=false"
    )
    arguments = run.parser().parse_args(shlex.split(line)[3:])
    again = make_config(None, run.options(arguments), arguments.assignments)
    config["task"] = str(Path("my file.jsonl").absolute())  # an input file is found from any folder
    assert again == RunConfig.model_validate(config)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "—"),
        (0.0, "0.0 s"),
        (0.01, "< 0.1 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (3_720, "1 h 02 min"),
    ],
)
def test_durations(value: float | None, words: str) -> None:
    assert wording.duration(value) == words


def test_small_numbers_keep_their_sign_and_never_read_minus_zero() -> None:
    assert (wording.signed(-0.00001), wording.signed(-0.02), wording.points(0.031)) == (
        "0.0000",
        "−0.0200",
        "+3.1 points",
    )
    assert (wording.p_text(0.0004), wording.p_text(0.012), wording.p_text(0.262)) == (
        "p < 0.001",
        "p = 0.012",
        "p = 0.26",
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("smollm2-135m", "smollm2-135m"),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        ("/home/someone/models/gemma-3.gguf", "gemma-3.gguf"),
        ("/home/someone/models/Qwen2.5-0.5B", "Qwen2.5-0.5B"),
        ("", ""),
    ],
)
def test_a_model_is_not_called_by_where_it_lies(model: str, name: str) -> None:
    assert wording.model_name(model) == name

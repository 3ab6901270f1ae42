"""A strategy that needs no labels, applied to what the command made."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.generate import main
from cao.model.adapters import load_adapter
from cao.model.language_model import LanguageModel
from cao.strategy import parse_strategy
from tests.agent.generate.command import PROMPTS, make, write
from tools.apply_strategy.ttl import TTL, train_ttl

TWO_STEPS = {"family": "TTL", "ttl_steps": 2, "learning_rate": 1e-3, "batch_size": 2, "shuffle_data": False}


def test_a_strategy_without_labels_is_applied_to_what_was_made(
    command: list[str], tmp_path: Path, lm: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, start = make(capsys, command), load_adapter(tmp_path / "made")
    ttl = json.dumps(TWO_STEPS)
    made = make(capsys, [*command, "--strategy", ttl, "--overwrite"])
    assert made["applied"].startswith("2 steps on the 6 of 6 prompts that passed P0")
    assert set(made["seconds"]) == {*plain["seconds"], "apply"}
    chosen = parse_strategy(ttl)
    assert isinstance(chosen, TTL)
    expected = train_ttl(lm, [f"Question: {prompt}\nAnswer:" for prompt in PROMPTS], chosen, start, 0)
    stored = load_adapter(tmp_path / "made", lm.sha256)
    assert all(torch.equal(stored.tensors[name], value) for name, value in expected.tensors.items())
    assert not all(torch.equal(stored.tensors[name], value) for name, value in start.tensors.items())
    write(tmp_path / "prompts.jsonl", [*PROMPTS, "", PROMPTS[0]])  # blank and repeated ones are left out here, too
    again = make(capsys, [*command, "--strategy", ttl, "--overwrite"])  # over what the strategy left
    assert again["adapter"] == made["adapter"]


@pytest.mark.parametrize(
    ("strategy", "done"),
    [
        ({**TWO_STEPS, "peft": "dora"}, "2 steps on the 6 of 6 prompts"),
        ({**TWO_STEPS, "subset": "layers", "share": 0.5}, "layers trained"),
        ({"family": "LORA", "lambda": 0.5}, "halves"),
    ],
)
def test_what_leaves_one_adapter_is_written(
    command: list[str], tmp_path: Path, lm: LanguageModel, strategy: dict[str, object], done: str, capsys: Any
) -> None:
    plain = make(capsys, command)
    made = make(capsys, [*command, "--strategy", json.dumps(strategy), "--overwrite"])
    assert done in made["applied"]
    assert made["adapter"]["sha256"] != plain["adapter"]["sha256"]
    assert load_adapter(tmp_path / "made", lm.sha256).provenance["generator"]


def test_a_soft_prompt_beside_the_made_adapter_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--strategy", json.dumps({**TWO_STEPS, "peft": "prompt"})]) == 2
    assert "error: --strategy: " in capsys.readouterr().err
    assert not list((tmp_path / "made").iterdir())


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("TTL", "--strategy TTL: not JSON"),
        ('{"family": "Latent", "slot_steps": 4, "slot_lr": 0.1}', "Latent leaves no adapter of its own to write"),
        (json.dumps(TWO_STEPS | {"ttl_steps": 0}), "ttl_steps"),
    ],
)  # fmt: skip
def test_a_strategy_that_cannot_be_applied_is_refused_before_anything_is_loaded(
    command: list[str], tmp_path: Path, strategy: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--strategy", strategy]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
    assert not (tmp_path / "made").exists()

"""What a run hands over: a folder that PEFT loads and acts, with its card, or one line on why there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from agent.export import main as export
from agent.verify import main as verify
from tests.agent.run.tiny_runs import TTL, arguments, echo_rows, run, strategies, write_rows

BETTER = {**TTL, "ttl_steps": 10, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> tuple[Path, list[str]]:
    """A folder for runs, and the arguments of a run that adopts what test-time training makes."""
    out = tmp_path_factory.mktemp("runs")
    questions = write_rows(out / "echoes.jsonl", echo_rows())
    return out, arguments(questions, tiny_model_folder, out, strategies(out, BETTER))


def test_a_run_is_exported_verified_and_merged(
    adopted: tuple[Path, list[str]], tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, argv = adopted
    record: dict[str, Any] = run(capsys, argv)
    to = tmp_path / "served"
    words = [record["run_id"], "--out", str(out), "--to", str(to)]
    assert record["status"] == "improved", [trial["reason"] for trial in record["trials"]]
    assert export([*words, "--merge", "--gguf", "--offline", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert {"README.md", "cao.json", "adapter_config.json", "adapter_model.safetensors", "adapter.gguf"} <= set(
        written["files"]
    )
    card = (to / "README.md").read_text()
    assert all(word in card for word in ("95 % interval", "Drift", "Licence", "TTL", record["model_sha256"]))
    told = json.loads((to / "cao.json").read_text())
    assert (told["members"], told["base_sha256"]) == (["."], record["model_sha256"])
    AutoModelForCausalLM.from_pretrained(to / "merged")
    assert verify([str(to), "--base", str(tiny_model_folder), "--offline"]) == 0
    assert "acts (here)" in capsys.readouterr().out
    assert export(words) == 2
    assert "is not empty" in capsys.readouterr().err
    beside = tmp_path / "a-file"
    beside.write_text("")
    assert export([*words[:-1], str(beside / "served")]) == 2
    assert f"--to {beside / 'served'}: cannot be made" in capsys.readouterr().err


def test_a_run_that_adopted_nothing_has_nothing_to_export(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"How many birds fly at {n}?\n" for n in range(12)))
    record = run(capsys, arguments(prompts, tiny_model_folder, tmp_path, strategies(tmp_path, TTL)))
    words = [record["run_id"], "--out", str(tmp_path), "--to", str(tmp_path / "served")]
    assert export(words) == 2
    assert "adopted nothing, so the deployed model is what to serve" in capsys.readouterr().err
    assert export([*words, "--what", "aligned"]) == 2
    assert "made no aligned adapter" in capsys.readouterr().err
    assert not (tmp_path / "served").exists()


@pytest.mark.integration
def test_a_copy_names_its_base_model_as_anybody_gets_it_and_is_verified_without_being_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--task", "gsm8k", "--support", "16", "--reward", "24", "--test", "24", "--max-attempts", "1"]
    quick = strategies(tmp_path, {"family": "Calibrate", "prior": "none", "strength": 0.0, "length": "token"})
    argv += ["--policy", "fixed", "--set", f"policy_settings.strategy_file={quick}"]
    record = run(capsys, [*argv, "--out", str(tmp_path), "--offline", "--json"])
    to = tmp_path / "served"
    assert export([record["run_id"], "--out", str(tmp_path), "--to", str(to), "--what", "generated"]) == 0
    config = json.loads((to / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert verify([str(to), "--offline"]) == 0
    assert "acts (here)" in capsys.readouterr().out

"""A run whose TTL trains a soft prompt: adopted, replayed, loaded, exported and verified, or refused."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.export import main as export
from agent.run import main
from agent.verify import main as verify
from cao import load
from cao.model.soft_prompt.weights import load_soft_prompt
from tests.agent.run.tiny_runs import TTL, arguments, echo_rows, result, strategies, write_rows

TRIED = [{**TTL, "ttl_steps": steps, "learning_rate": rate} for steps, rate in ((40, 3e-5), (10, 3e-5), (10, 3e-4))]


@dataclass
class Adopted:
    """A run that adopted a soft prompt."""

    folder: Path
    argv: list[str]
    record: dict[str, Any]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Adopted:
    out = tmp_path_factory.mktemp("runs")
    questions = write_rows(out / "echoes.jsonl", echo_rows())
    argv = arguments(questions, tiny_model_folder, out / "runs", strategies(out, *TRIED))
    argv += ["--set", "ttl.peft=prompt", "--set", "ttl.virtual_tokens=2", "--set", "accept=any"]
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(io.StringIO()) as err:
        status = main(argv)
    assert status == 0, err.getvalue()
    record = json.loads(told.getvalue())
    return Adopted(out / "runs" / record["run_id"], argv, record)


def test_it_is_adopted_as_a_folder_of_prompt_tuning(adopted: Adopted) -> None:
    record = adopted.record
    assert record["status"] == "improved", [trial["reason"] for trial in record["trials"]]
    tried = record["trials"][-1]
    assert tried["accepted"]
    assert tried["strategy"] in [{**one, "peft": "prompt", "virtual_tokens": 2} for one in TRIED]
    assert "2 virtual tokens before each prompt" in tried["reason"]
    config = json.loads((adopted.folder / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["num_virtual_tokens"], config["token_dim"]) == ("PROMPT_TUNING", 2, 32)
    assert load_soft_prompt(adopted.folder / "adapter", record["model_sha256"]).tokens == 2
    assert (adopted.folder / "adapter" / "README.md").read_text().startswith("# A soft prompt in PEFT format")


@pytest.mark.parametrize("node", ["apply", "conclude"])
def test_a_replay_comes_to_the_same_bytes(adopted: Adopted, tmp_path: Path, node: str) -> None:
    name = adopted.folder.name
    shutil.copytree(adopted.folder, tmp_path / name)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = trace.main(["replay", name, "--from", node, "--out", str(tmp_path), "--json"])
    assert status == 0, err.getvalue()
    record = json.loads(out.getvalue())
    assert result(record) == result(adopted.record)
    one, other = (adopted.folder / "adapter", tmp_path / record["run_id"] / "adapter")
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_a_folder_that_was_changed_is_not_gone_on_from(
    adopted: Adopted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(adopted.folder, tmp_path / adopted.folder.name)
    for config in folder.glob("adapters/*/adapter_config.json"):
        config.write_text(config.read_text().replace('"num_virtual_tokens": 2', '"num_virtual_tokens": 3'))
    (folder / "run.json").unlink()
    assert main([*adopted.argv, "--out", str(tmp_path), "--resume", folder.name]) == 2
    assert "3 x 32 numbers" in capsys.readouterr().err


def test_it_is_loaded_exported_verified_and_served_and_nothing_merges_it(
    adopted: Adopted, tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "served"
    words = [adopted.record["run_id"], "--out", str(adopted.folder.parent), "--to", str(to), "--offline"]
    for wish in ("--merge", "--gguf"):
        assert export([*words, wish]) == 2
        assert "LoRA, and this run adopted a soft prompt" in capsys.readouterr().err
        assert not to.exists()
    assert export(words) == 0
    capsys.readouterr()
    assert '"prompt-tuning"' in (to / "README.md").read_text()
    place = [str(to), "--base", str(tiny_model_folder), "--offline"]
    assert verify(place) == 0
    assert "acts (here)" in capsys.readouterr().out
    assert verify([*place, "--server", "http://127.0.0.1:9/v1", "--adapter", "mine"]) == 2
    assert "servers load LoRA alone" in capsys.readouterr().err

    own, theirs = load(adopted.folder), load(to, model_path=str(tiny_model_folder))
    asked = echo_rows()[3]
    answers = [model.answer(asked["question"], asked["choices"]) for model in (own, theirs)]
    assert answers[0] == answers[1]
    assert own.generate("the bird", max_new_tokens=8) == theirs.generate("the bird", max_new_tokens=8)

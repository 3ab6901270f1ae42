"""A run whose TTL trains a soft prompt: adopted, replayed, loaded, exported and verified, or refused."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.export import main as export
from agent.loop import nodes
from agent.loop.reward import judge
from agent.run import main
from agent.verify import main as verify
from cao import load
from cao.errors import InputError
from cao.model.soft_prompt.weights import load_soft_prompt
from cao.types import Comparison
from tests.agent.run.tiny_runs import TTL, arguments, echo_rows, result, strategies, write_rows

STRATEGY = {**TTL, "ttl_steps": 10, "learning_rate": 1e-4}


@dataclass
class Adopted:
    """A run that adopted a soft prompt."""

    folder: Path
    argv: list[str]
    record: dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _every_attempt_is_accepted() -> Iterator[None]:
    """A random model hardly gains by a soft prompt; what is tested here is what comes behind the verdict."""

    def accepted(*given: Any) -> Comparison:
        return judge(*given).model_copy(update={"accepted": True})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "judge", accepted)
        yield


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Adopted:
    out = tmp_path_factory.mktemp("runs")
    questions = write_rows(out / "echoes.jsonl", echo_rows())
    argv = arguments(questions, tiny_model_folder, out / "runs", strategies(out, STRATEGY))
    argv += ["--set", "ttl.peft=prompt", "--set", "ttl.virtual_tokens=2", "--max-attempts", "1"]
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(io.StringIO()) as err:
        status = main(argv)
    assert status == 0, err.getvalue()
    record = json.loads(told.getvalue())
    return Adopted(out / "runs" / record["run_id"], argv, record)


def test_it_is_adopted_as_a_folder_of_prompt_tuning(adopted: Adopted) -> None:
    record = adopted.record
    assert record["status"] == "improved", [trial["reason"] for trial in record["trials"]]
    (tried,) = record["trials"]
    assert tried["strategy"] == {**STRATEGY, "peft": "prompt", "virtual_tokens": 2}
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


def test_a_folder_that_was_changed_is_not_loaded(adopted: Adopted, tmp_path: Path) -> None:
    folder = shutil.copytree(adopted.folder, tmp_path / adopted.folder.name)
    config = folder / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"num_virtual_tokens": 2', '"num_virtual_tokens": 3'))
    with pytest.raises(InputError, match="3 x 32 numbers"):
        load(folder)


def test_it_is_loaded_exported_and_verified_and_nothing_merges_it(
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


def test_a_server_writes_as_the_loaded_model_does(adopted: Adopted, tmp_path: Path, tiny_model_folder: Path) -> None:
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(module)
    from tests.agent.server.running_site import options, serving

    own, told = load(adopted.folder), {"prompt": "the bird can", "max_tokens": 8, "temperature": 0}
    with serving(options(tiny_model_folder, tmp_path, adopted=[f"mine={adopted.folder}"])) as site:
        mine, base = (site.client.completions.create(model=name, **told).choices[0].text for name in ("mine", "base"))
    assert mine == own.generate("the bird can", max_new_tokens=8)
    assert mine != base

"""The command on a model that a server runs: its figures are those of the same model here."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.run import main as run_command
from cao.model.adapters import LoraWeights, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from eval.compare import main as compare
from eval.score import main
from tests.conftest import TINY
from tests.eval.test_score import ROWS
from tests.policies.client.model_server import ADAPTER, BASE, ModelServer, serving_model


def loaded(folder: Path) -> LanguageModel:
    return load_language_model(TINY, path=str(folder), dtype="float32", offline=True)


def adapter_of(lm: LanguageModel) -> LoraWeights:
    weights, generator = lm.fresh_lora(0), torch.Generator().manual_seed(1)
    for name, tensor in weights.tensors.items():
        if ".lora_B." in name:
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return weights


@pytest.fixture(scope="module")
def server(tiny_model_folder: Path) -> Iterator[ModelServer]:
    lm = loaded(tiny_model_folder)
    with serving_model(ModelServer(lm, adapter_of(lm))) as running:
        yield running


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "animals.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def score(questions: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the command sets variables for its libraries
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["--task", str(questions), "--offline", *arguments])
        return status, *capsys.readouterr()

    return call


TEXT = ("--set", "profile.answer_style=text")


@pytest.mark.parametrize("name", [None, ADAPTER])
def test_figures_are_those_of_the_model_here(
    score: Any, server: ModelServer, tiny_model_folder: Path, tmp_path: Path, name: str | None
) -> None:
    lm = loaded(tiny_model_folder)
    folder = save_adapter(tmp_path, adapter_of(lm), "tiny").path
    here = ["--model-path", str(tiny_model_folder), "--dtype", "float32", *(["--adapter", folder] if name else [])]
    there = ["--server", server.url, "--server-model", BASE, *(["--server-adapter", name] if name else [])]
    local = json.loads(score("--json", *TEXT, *here)[1])
    served = json.loads(score("--json", *TEXT, *there)[1])
    assert (served["model"], served["adapter"], served["protocol"]) == (BASE, name, "likelihood")
    assert served["answer_style"] == "text"
    for key in ("accuracy", "ci95", "n", "chance"):
        assert served[key] == local[key]
    for key in ("gold_nll_per_char", "loss", "raw_loss", "margin"):
        assert served[key] == pytest.approx(local[key], abs=1e-3)
    for mine, theirs in zip(served["items"], local["items"], strict=True):
        assert mine["scores"] == pytest.approx(theirs["scores"], abs=1e-3)
        assert (mine["id"], mine["choice"], mine["gold"]) == (theirs["id"], theirs["choice"], theirs["gold"])


def test_written_answers_are_held_against_guessing_as_here(
    score: Any, server: ModelServer, tiny_model_folder: Path
) -> None:
    here = ["--model-path", str(tiny_model_folder), "--dtype", "float32"]
    there = ["--server", server.url, "--server-model", BASE]
    local = json.loads(score("--json", "--protocol", "generate", *here)[1])
    served = json.loads(score("--json", "--protocol", "generate", *there)[1])
    for key in ("accuracy", "ci95", "n", "chance", "at_chance"):
        assert served[key] == local[key]
    assert served["chance"] > 0
    assert (served["loss"], served["items"][0]["scores"]) == (None, [])
    shown = score("--protocol", "generate", *there)[1]
    assert f"; guessing {100 * served['chance']:.1f} %; at chance) on 4 questions, by generate" in shown


def test_base_and_adapter_are_compared_by_what_was_printed(
    score: Any, server: ModelServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--json", *TEXT, "--server", server.url, "--server-model", BASE]
    sides = [tmp_path / "base.json", tmp_path / "adapter.json"]
    for path, more in zip(sides, ([], ["--server-adapter", ADAPTER]), strict=True):
        path.write_text(score(*common, *more)[1])
    assert compare([str(side) for side in sides]) == 0
    assert "4 questions" in " ".join(capsys.readouterr().out.split())


def test_the_answer_style_is_measured_by_the_server(score: Any, server: ModelServer) -> None:
    status, out, err = score("--server", server.url, "--server-model", BASE)
    assert status == 0
    assert "right on 12 easy questions" in err
    assert "by likelihood of " in out


@pytest.mark.parametrize("protocol", ["likelihood", "generate"])
def test_a_server_that_serves_the_base_model_by_the_adapters_name_is_noticed(
    score: Any, server: ModelServer, protocol: str
) -> None:
    server.silent = True
    try:
        names = ["--server", server.url, "--server-model", BASE, "--server-adapter", "tuend"]
        status, out, err = score("--protocol", protocol, *names)
    finally:
        server.silent = False
    assert (status, out) == (2, "")
    assert "--server-adapter tuend: with the adapter every answer is that of the base model" in err


def test_an_adapters_own_name_must_differ_and_be_known(score: Any, server: ModelServer) -> None:
    status, _, err = score("--server", server.url, "--server-model", BASE, "--server-adapter", BASE)
    assert status == 2
    assert "is the base model's name" in err
    status, _, err = score("--server", server.url, "--server-model", BASE, "--server-adapter", "tuend")
    assert status == 3
    assert "HTTP 404 for model 'tuend'" in err


def test_a_server_without_log_probabilities_is_named(score: Any, server: ModelServer) -> None:
    server.echo = server.prompt_logprobs = False
    try:
        status, out, err = score("--server", server.url, "--server-model", BASE)
    finally:
        server.echo = server.prompt_logprobs = True
    assert (status, out) == (3, "")
    assert "returns no log-probabilities of a prompt" in err


def test_a_run_says_that_a_server_cannot_be_adapted(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--task", str(questions), "--out", str(tmp_path / "runs"), "--offline"]
    assert run_command([*given, "--model", "http://127.0.0.1:8000/v1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be adapted here" in err
    assert "eval.score --server URL" in err
    assert not (tmp_path / "runs").exists()

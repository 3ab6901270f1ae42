"""What a run generates: from which prompts, by which variant, and what its plan says of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.config import make_config
from agent.loop import applying, nodes
from agent.loop.request import read_task
from agent.loop.trained import find_trained
from agent.run import main
from cao.machine.assets import minilm_folder
from cao.model.adapters import WEIGHTS_FILE, load_adapter
from cao.model.encoder import Encoder
from tests.agent import tiny_pretrained
from tests.agent.run.generated.generated_runs import LATENT, TASK, TTL, command
from tests.agent.run.tiny_runs import GOLD, TTS, run


@pytest.mark.usefixtures("use")
def test_generators_read_questions_and_the_model_reads_prompts(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, apply, align = {}, applying.apply_strategy, nodes.align_lora

    def applied(strategy: Any, prompts: list[str], *rest: Any, **options: Any) -> Any:
        seen[strategy.family] = prompts
        return apply(strategy, prompts, *rest, **options)

    def aligned(generated: Any, prompts: list[str], **options: Any) -> Any:
        seen["align"] = prompts
        return align(generated, prompts, **options)

    monkeypatch.setattr(applying, "apply_strategy", applied)
    monkeypatch.setattr(nodes, "align_lora", aligned)
    run(capsys, [*command(questions, tiny_model_folder, tmp_path, [TTS, TTL]), "--accept", "any"])
    assert all(text.startswith("the bird can fly") for text in seen["TTS"])
    for family in ("TTL", "align"):
        assert all(text.startswith("Question: the bird") and text.endswith("Answer:") for text in seen[family])


@pytest.mark.parametrize(
    ("option", "made", "words"),
    [("none", [], "no adapter was asked for"), ("generated", ["generated"], "no alignment was asked for")],
)
@pytest.mark.usefixtures("use")
def test_what_was_not_asked_for_is_not_made(
    option: str,
    made: list[str],
    words: str,
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, [LATENT], "--adapter", option))
    assert [name for name in ("generated", "aligned") if record["adapters"][name]] == made
    assert [name for name in ("generated", "aligned") if record["reward"][name]] == made
    assert words in record["adapters"]["reason"]
    assert record["config"]["adapter"] == option
    assert record["reward"]["start"] == (made or ["base"])[0]
    items = tmp_path / "runs" / record["run_id"] / "items"
    assert {path.stem for path in items.iterdir()} >= {"base", *made}
    assert not (items / "aligned.jsonl").exists()


@pytest.mark.usefixtures("use")
def test_the_variant_can_be_named_and_is_recorded(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    record = run(capsys, [*argv, "--set", "variant=full"])
    assert (record["adapters"]["variant"], record["adapters"]["saw_task"]) == ("full", True)
    assert main([*argv, "--set", "variant=without-nothing"]) == 2
    assert "without-nothing" in capsys.readouterr().err
    assert main([*argv, "--set", "variant=../../elsewhere"]) == 2


def support(record: dict[str, Any]) -> list[str]:
    """The support prompts of a run."""
    _, splits, _ = read_task(make_config(None, record["config"], []))
    return [example.prompt for example in splits.support]


def test_the_stored_adapter_is_the_generators(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, use: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The detour over the run's files changes nothing: conditioning in, adapter out, as called by hand."""
    record = run(
        capsys, command(questions, tiny_model_folder, tmp_path, ["no strategy", LATENT], "--max-attempts", "1")
    )
    folder = tmp_path / "runs" / record["run_id"]
    trained = find_trained(record["model_sha256"], TASK, "auto", align=False, folder=str(tmp_path / "pretrained"))
    assert trained.generator is not None
    expected = trained.generator.generate(*Encoder(minilm_folder()).condition(support(record)))
    made = load_adapter(folder / record["adapters"]["generated"]["path"])
    assert all(torch.equal(made.tensors[name], value) for name, value in expected.tensors.items())
    assert (folder / record["adapters"]["generated"]["path"] / WEIGHTS_FILE).exists()


@pytest.mark.usefixtures("use")
def test_repeated_prompts_make_the_same_adapter_and_are_reported(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "the bird can fly {} times. what can the bird do?"
    rows = [
        {"question": question.format(n), "choices": [wrong, GOLD], "answer": 1}
        for n in range(30)
        for wrong in ("#7{4q~", "#8{4q~")
    ]
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = [
        *command(path, tiny_model_folder, tmp_path, ["no strategy", LATENT]),
        "--max-attempts",
        "1",
        "--support",
        "20",
    ]
    record = run(capsys, argv)
    folder = tmp_path / "runs" / record["run_id"]
    [caveat] = [text for text in record["adapters"]["caveats"] if "repeat another one" in text]
    states, mask = Encoder(minilm_folder()).condition(support(record))
    repeats = int(caveat.split()[0])
    assert repeats > 0
    assert len(states) - repeats == len(states.unique(dim=0))
    used = [i for i in range(len(states)) if not any(torch.equal(states[i], states[j]) for j in range(i))]
    trained = find_trained(record["model_sha256"], "twice", "auto", align=False, folder=str(tmp_path / "pretrained"))
    assert trained.generator is not None
    expected = trained.generator.generate(states[used], mask[used])
    made = load_adapter(folder / record["adapters"]["generated"]["path"])
    assert all(torch.equal(made.tensors[name], value) for name, value in expected.tensors.items())
    assert caveat in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "starts", "variant"),
    [([], 3, "without-echoes"), (["--adapter", "generated"], 2, "without-echoes"), (["--adapter", "none"], 1, None)],
)
@pytest.mark.usefixtures("use")
def test_the_plan_says_what_the_loop_may_start_from(
    more: list[str],
    starts: int,
    variant: str | None,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["--task", str(questions), "--model", tiny_pretrained.MODEL, "--reward", "12", "--test", "12", "--dry-run"]
    argv += ["--support", "8", "--out", str(tmp_path / "runs"), "--pretrained", str(tmp_path / "pretrained"), *more]
    plan = run(capsys, [*argv, "--json"])
    assert (plan["starts"], plan["variant"]) == (starts, variant)
    low, high = plan["estimated_seconds"]["start"]
    assert 0 < low <= high
    assert main(argv) == 0
    assert ("whichever measures best" in " ".join(capsys.readouterr().out.replace("│", " ").split())) == (starts > 1)

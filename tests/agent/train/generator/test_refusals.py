"""What a consolidation refuses: other settings, other models, what cannot be, and damage."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.agent.train.generator.finished import WITHOUT, Finished, call, content, one_line
from tests.agent.train.generator.tiny_consolidation import command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("generator.steps=11", "preset.generator.steps"),
        ('sources=["arc_easy"]', "preset.sources"),
        ("aligner.kl=0.1", "preset.aligner.kl"),
        ("aligner.target=generated", "preset.aligner.target"),
    ],
)
def test_other_settings_for_a_folder_are_refused_by_name(assignment: str, named: str, finished: Finished) -> None:
    before = content(finished.folder)
    argv = finished.command("--set", assignment, *(["--set", "leave_out=[]"] if named == "preset.sources" else []))
    ended = call(argv)
    assert ended.code == 2
    message = one_line(ended)
    assert str(finished.folder) in message
    assert named in message
    assert "another --out" in message
    assert "kept_steps" not in message
    assert content(finished.folder) == before


def test_another_model_for_a_folder_is_refused(finished: Finished, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(finished.model, model)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 2
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    ended = call(command(model, finished.out))
    assert ended.code == 2
    assert "model_path_sha256" in one_line(ended)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--preset", "huge"], 2, "unknown preset 'huge'; known: wide, small, embedded, paper-0.5b, paper-1.5b"),
        (["--model", "gpt"], 2, "unknown model 'gpt'; known: smollm2-135m, qwen2.5-0.5b, qwen2.5-1.5b"),
        (["--workers", "0"], 2, "--workers 0: Input should be"),
        (["--seed", "-1"], 2, "--seed -1: Input should be"),
        (["--device", "tpu"], 2, "unknown device 'tpu'; known: cpu, cuda"),
        (["--set", 'sources=["arc_easy","nonsense"]'], 2, "no task is called 'nonsense'"),
        (["--set", 'sources=["arc_easy","arc_easy"]'], 2, "a task is given twice"),
        (["--set", "sources=[]"], 2, "there are none"),
        (["--set", 'sources=["openbookqa"]'], 2, "add --set leave_out=[]"),
        (
            ["--set", 'sources=["gsm8k","reasoning_gym_gsm_symbolic"]', "--set", "leave_out=[]", "--set", "folds=2"],
            2,
            "all of them have problems of those that fold-1 leaves out",
        ),
        (["--set", 'leave_out=["nonsense"]'], 2, "no task is called 'nonsense'"),
        (["--set", "generator.step=3"], 2, "generator.step: unknown key"),
        (["--set", "name=other"], 2, "name: unknown key"),
        (["--set", "generator.steps"], 2, "write it as key=value"),
        (["--set", "generator.steps=ten"], 2, "--set generator.steps: Input should be a valid integer"),
        (["--set", "generator.steps=true"], 2, "--set generator.steps: Input should be a valid integer"),
        (["--set", "generator.steps=0"], 2, "--set generator.steps: Input should be greater than or equal to 1"),
        (["--set", "generator.rate=nan"], 2, "--set generator.rate: Input should be"),
        (["--set", "statistics=median"], 2, "'layer' or 'element'"),
        (["--set", "token=[16]"], 2, "--set token"),
        (["--set", "ladder.kernel=4"], 2, "kernel is odd"),
        (["--set", "ladder.shapes=[[4,100,384],[16,16,32]]"], 2, "begins at (N, 384, 384)"),
        (["--set", "ladder.shapes=[[4,384,384],[16,8,32]]"], 2, "too small for tokens of (16, 32)"),
        (
            ["--set", "ladder.shapes=[[4,384,384],[15,16,32]]"],
            2,
            "the decoder ends in (15, 16, 32), this model needs (16, 16, 32)",
        ),
        (["--set", "generator.reconstruction=0"], 2, "generator.behaviour_from=0"),
        (["--set", "aligner.widths=[2,2,2,2,2,2,2,2,2]"], 2, "not the sizes of a Fusion VAE"),
        (["--set", "model_path=7"], 2, "--set model_path: Input should be a valid string"),
        (["--set", "model_path=nowhere"], 3, "give one with --set model_path=DIR"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    more: list[str], code: int, words: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    ended = call(command(tiny_model_folder, tmp_path / "runs", *more))
    assert ended.code == code, ended.err
    assert words in one_line(ended)
    assert not [path for path in tmp_path.rglob("config.json") if path.is_file()]
    assert not list(tmp_path.rglob("data"))


def test_a_folder_that_cannot_be_made_is_named(tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = call(command(tiny_model_folder, tmp_path / "file"))
    assert ended.code == 2
    assert "choose another --out" in one_line(ended)


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "name",
    [
        "states/arc_easy.safetensors",
        "checkpoints/arc_easy.safetensors",
        "checkpoints/arc_easy-average.safetensors",
        "validation/arc_easy.json",
        "variants/full/generator.safetensors",
        f"variants/{WITHOUT}/generator.partial",
        "data/arc_easy.jsonl",
        "config.json",
        "model.json",
    ],
)
def test_a_damaged_file_is_named_and_can_be_made_again(name: str, finished: Finished, tmp_path: Path) -> None:
    left = [f"variants/{WITHOUT}", *(["variants/full/aligner*"] if name.startswith("variants/full") else [])]
    folder, argv = finished.copy(tmp_path, *left), command(finished.model, tmp_path)
    path = folder / name
    if name.endswith(".partial"):
        path.parent.mkdir()
        path.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    else:
        halved(path)
    ended = call(argv)
    assert ended.code == 2, ended.err
    [message] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert str(path) in message
    assert "Traceback" not in ended.err
    assert ended.out == ""
    if "delete it" in message:
        path.unlink()
        ended = call(argv)
        assert ended.code == 0, ended.err
        assert content(folder) == content(finished.folder)
    else:
        assert name.startswith(("data", "variants")), message


def test_a_worker_that_meets_a_damaged_file_ends_all_of_it(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, "states/arc_easy*", "variants")
    halved(folder / "data" / "arc_easy.jsonl")
    ended = call(command(finished.model, tmp_path, "--workers", "2"))
    assert ended.code == 2
    assert f"{folder}/data/arc_easy.jsonl: damaged" in one_line(ended)
    assert not (folder / "variants").exists()

"""The whole of stages 1 and 2 on a tiny random model: what it leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import cao
from agent.config import settings_of
from agent.consolidate import parser
from agent.train.generator import run as consolidation_run
from agent.train.generator.options import ConsolidateOptions
from agent.train.generator.run import open_consolidation
from agent.train.generator.settings import Settings
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import variants
from cao.files import sha256_file
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import weights_sha256
from cao.progress import silent
from tests.agent import tiny_pretrained
from tests.agent.train.generator.finished import WITHOUT, Finished, call, content, one_line
from tests.agent.train.generator.tiny_consolidation import LEFT_OUT, SOURCES, command
from tests.tools.tiny_training import plain_loss
from tools import pretrained
from tools.align_lora import find_aligner
from tools.align_lora.aligner_file import load_aligner
from tools.generate_lora import find_generator
from tools.generate_lora.generator import load_generator
from tools.generate_lora.training import train_generator

pytestmark = pytest.mark.slow
VARIANTS = {"full": list(SOURCES), WITHOUT: ["arc_easy"]}


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return tiny_pretrained.load(tiny_model_folder)


def opened(model: Path, out: Path) -> Consolidation:
    """The consolidation of a folder, to call its steps."""
    options = settings_of(ConsolidateOptions, parser().parse_args(command(model, out)), "consolidate")
    return open_consolidation(Settings(**dict(options)), silent)


def test_one_call_leaves_every_part_and_prints_the_index(finished: Finished) -> None:
    assert finished.ended.code == 0, finished.ended.err
    assert json.loads(finished.ended.out) == json.loads((finished.folder / "index.json").read_text())
    assert finished.ended.out.startswith("{")
    collected = [*(f"checkpoints/{task}" for task in SOURCES), *(f"unions/{name}" for name in VARIANTS)]
    made = ("generator.safetensors", "generator-losses.json", "aligner.safetensors", "aligner-losses.json")
    expected = {
        *("config.json", "model.json", "index.json", "questions"),
        *(f"{kind}/{task}" for task in SOURCES for kind in ("data", "states", "validation")),
        *(name for stem in collected for name in (stem, f"{stem}-average")),
        *(f"variants/{name}/{part}" for name in VARIANTS for part in made),
    }
    found = content(finished.folder)
    plain = {name if name in expected else name.rsplit(".", 1)[0] for name in found}
    assert plain == expected
    assert len(found) == len(expected)
    for stage in ("states", "checkpoints", "union", "generator", "aligner"):
        assert f"] {stage} " in finished.ended.err
    assert "[10/10 done]" in finished.ended.err
    assert list(finished.out.iterdir()) == [finished.folder]


def test_the_index_says_how_each_part_was_made(finished: Finished, lm: LanguageModel) -> None:
    index = pretrained.read_index(finished.folder / "index.json")
    assert index is not None
    assert list(index.models) == [lm.sha256]
    shelf = index.models[lm.sha256]
    assert shelf.name == tiny_pretrained.MODEL
    assert {entry.name: list(entry.sources) for entry in shelf.variants} == VARIANTS
    assert {entry.name: entry.leaves_out for entry in shelf.variants} == {"full": (), WITHOUT: (LEFT_OUT,)}
    for entry in shelf.variants:
        assert entry.aligner is not None
        generator = load_generator(finished.folder / entry.generator.path, lm.sha256)
        initial, place = generator.initial, finished.folder / entry.aligner.path
        aligner = load_aligner(place, generator.layout, initial, generator_sha256=generator.sha256)
        assert (entry.generator.sha256, entry.aligner.sha256) == (generator.sha256, aligner.sha256)
        losses = json.loads((place.parent / "generator-losses.json").read_text())
        curve = json.loads((place.parent / "aligner-losses.json").read_text())
        made = dict(entry.made)
        told = made.pop("aligner")
        assert told["tasks"].split() == list(entry.sources)
        assert float(told["mse_last_tenth"]) == pytest.approx(sum(mse for mse, _ in curve[-2:]) / 2, abs=1e-6)
        validation = made.pop("validation")
        assert {task: set(found) for task, found in validation.items()} == {
            task: {"base", "checkpoint", "generated"} for task in entry.sources
        }
        assert made == {
            "preset": "embedded",
            "seed": 0,
            "initial_seed": 0,
            "encoder_sha256": Encoder(minilm_folder()).sha256,
            "layout_sha256": generator.layout.sha256,
            "code_version": cao.__version__,
            "config_sha256": sha256_file(finished.folder / "config.json"),
            "steps": 10,
            "sources": list(entry.sources),
            "data_sha256": {task: sha256_file(finished.folder / "data" / f"{task}.jsonl") for task in entry.sources},
            "reconstruction_loss": pytest.approx(sum(a for a, _ in losses) / 10),
            "answer_loss": pytest.approx(sum(b for _, b in losses) / 10),
        }
        assert [b > 0 for _, b in losses] == [step >= 5 for step in range(10)]
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["model_path_sha256"] == weights_sha256(finished.model)
    assert config["preset"]["generator"]["steps"] == 10


def test_what_is_measured_on_is_kept_from_all_training(finished: Finished, lm: LanguageModel) -> None:
    consolidation = opened(finished.model, finished.out)
    examples = consolidation.examples("arc_easy")
    assert len(examples) == 40
    trained, measured = consolidation.rows("arc_easy")
    assert (len(trained), len(measured)) == (36, 4)
    assert not {tuple(row.tokens) for row in trained} & {tuple(row.tokens) for row in measured}
    kept = [example.prompt for i, example in enumerate(examples) if i % 10][:8]
    states, (hidden, mask) = consolidation.states("arc_easy"), Encoder(minilm_folder()).condition(kept)
    assert [len(state) for state in states] == mask.sum(1).tolist()
    assert all(
        torch.allclose(state.float(), row[where], atol=2e-3)
        for state, row, where in zip(states, hidden, mask, strict=True)
    )
    base = json.loads((finished.folder / "validation" / "arc_easy.json").read_text())["base"]
    assert base == pytest.approx(float(plain_loss(lm, {}, measured, 1.0)), abs=0.02)  # bf16 against bf16 in a batch
    residuals = load_file(finished.folder / "checkpoints" / "arc_easy.safetensors")["residuals"]
    average = load_file(finished.folder / "checkpoints" / "arc_easy-average.safetensors")["residual"]
    assert residuals.shape == (5, 2, 4096)
    assert torch.equal(average, residuals.float().mean(0).to(torch.bfloat16))
    assert not torch.equal(residuals[0], residuals[4])


def test_a_generator_that_leaves_a_task_out_needs_nothing_of_it(finished: Finished, tmp_path: Path) -> None:
    folder = finished.copy(tmp_path, f"variants/{WITHOUT}", "validation", f"*/{LEFT_OUT}*", "unions", "variants/full")
    consolidation = opened(finished.model, tmp_path)
    [variant] = [variant for variant in variants(consolidation.preset) if variant.leaves_out]
    consolidation.aligner(variant)
    for part in ("generator", "aligner"):
        name = f"variants/{WITHOUT}/{part}.safetensors"
        assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()
    assert not list(folder.rglob(f"{LEFT_OUT}*"))
    assert not (finished.folder / "variants" / "without-piqa").exists()


def test_an_aligner_towards_the_generated_weights_needs_no_checkpoint(finished: Finished, tmp_path: Path) -> None:
    through = ("generator.reconstruction=0", "generator.behaviour_from=0", "generator.answers=1", "leave_out=[]")
    values = ("aligner.target=generated", *through)
    ended = call(command(finished.model, tmp_path, *(part for value in values for part in ("--set", value))))
    assert ended.code == 0, ended.err
    folder = tmp_path / finished.folder.name
    assert not (folder / "checkpoints").exists()
    place = folder / "variants" / "full"
    generator = load_generator(place / "generator.safetensors")
    made = load_aligner(
        place / "aligner.safetensors", generator.layout, generator.initial, generator_sha256=generator.sha256
    )
    assert made.header.target == "generated"
    begun = generator.origin.square().mean(1, keepdim=True).sqrt()
    assert torch.equal(generator.scale, begun)  # no checkpoint says how far apart adapters are
    weights = generator.unconditional()
    moved = made.align(weights, torch.zeros(len(made.mean)))
    for name, value in weights.tensors.items():  # a decoder that emits a correction begins at what is wanted
        assert torch.allclose(moved.tensors[name], value, atol=1e-3)


def test_checkpoints_end_where_the_loss_on_questions_held_back_stops_falling(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.generate_lora.checkpoints.LOOK_EVERY", 1)
    rising = iter([1.0, *range(2, 99)])
    looked_at = []

    def look(lm: LanguageModel, rows: list[Any], *, gradient: bool) -> torch.Tensor:
        looked_at.append([row.tokens for row in rows])
        return torch.tensor(float(next(rising)))

    monkeypatch.setattr("tools.generate_lora.checkpoints.answer_loss", look)
    patient = ("--set", "checkpoints.patience=2", "--set", "checkpoints.warm_steps=9")
    options = settings_of(
        ConsolidateOptions, parser().parse_args(command(finished.model, tmp_path, *patient)), "consolidate"
    )
    consolidation = open_consolidation(Settings(**dict(options)), silent)
    consolidation.folder.mkdir()
    assert len(consolidation.checkpoints("arc_easy")) == 5
    assert consolidation.steps("arc_easy") == 3 + 5
    assert looked_at == 3 * [[row.tokens for row in consolidation.rows("arc_easy")[1]]]


def test_the_model_is_given_back_while_nothing_goes_through_it(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.copy(tmp_path, "variants", "config.json")
    options = settings_of(
        ConsolidateOptions,
        parser().parse_args(command(finished.model, tmp_path, "--set", "generator.behaviour_from=10")),
        "consolidate",
    )
    consolidation = open_consolidation(Settings(**dict(options)), silent)
    held = []

    def watched(*args: Any, **options: Any) -> list[tuple[float, float]]:
        held.append((args[2], "lm" in vars(consolidation)))
        return train_generator(*args, **options)

    monkeypatch.setattr("agent.train.generator.generators.train_generator", watched)
    made = consolidation.generator(variants(consolidation.preset)[0])
    assert held == [(None, False)]
    assert made.made["answer_loss"] == 0
    assert made.made["validation"].keys() == {*SOURCES}  # measured with the model, which is loaded again


def test_another_call_loads_no_model_and_writes_nothing_anew(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stamps() -> dict[str, tuple[int, int]]:
        skipped = (".lock", "index.json", "questions.safetensors")  # written anew, with the same content
        files = [path for path in finished.folder.rglob("*") if path.is_file() and path.name not in skipped]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is left to do")

    before, made = stamps(), content(finished.folder)
    for name in ("load_model", "Encoder", "Clock"):
        monkeypatch.setattr(consolidation_run, name, refuse)
    ended = call(finished.command())
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{finished.folder}:\n")
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == ["full", WITHOUT, "Add"]
    assert stamps() == before
    assert content(finished.folder) == made


def test_installed_parts_are_found_beside_those_of_other_models(
    finished: Finished, lm: LanguageModel, tmp_path: Path
) -> None:
    index = tmp_path / "pretrained" / "index.json"
    install = ("--install", "--pretrained", str(index.parent))
    other, old = "0" * 64, {"path": "old/generator.safetensors", "sha256": "1" * 64}
    theirs = {"path": f"{tiny_pretrained.MODEL}/full/generator.safetensors", "sha256": "2" * 64}
    shelves = {
        model: {"name": tiny_pretrained.MODEL, "variants": [{"name": "full", "sources": ["piqa"], "generator": part}]}
        for model, part in ((other, theirs), (lm.sha256, old))
    }
    for part in (old, theirs):
        (index.parent / part["path"]).parent.mkdir(parents=True)
        (index.parent / part["path"]).write_bytes(b"weights")
    index.write_text(json.dumps({"format": 1, "models": shelves}))
    for _ in range(2):  # over itself too
        ended = call(finished.command(*install))
        assert ended.code == 0, ended.err
        assert f"Installed in {index.parent}." in ended.out
        for task, variant in ((None, "full"), ("arc_easy", "full"), ("piqa", "full"), (LEFT_OUT, WITHOUT)):
            generator = find_generator(lm.sha256, task, index=index)
            assert generator is not None
            aligner = find_aligner(generator, index)
            assert aligner is not None
            assert generator.made["sources"] == VARIANTS[variant]
            parts = finished.folder / "variants" / variant
            assert generator.sha256 == load_generator(parts / "generator.safetensors", lm.sha256).sha256
            assert aligner.header.generator_sha256 == generator.sha256
        assert (index.parent / theirs["path"]).read_bytes() == b"weights"
        assert not (index.parent / old["path"]).exists()  # it served this model before
        found = json.loads(index.read_text())
        assert found["models"][other]["variants"][0]["generator"] == theirs
        assert len([path for path in index.parent.rglob("*") if path.is_file()]) == 7
    index.write_text("{")
    assert str(index) in one_line(call(finished.command(*install)))

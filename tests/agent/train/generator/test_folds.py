"""A consolidation across folds: generators that learn to choose, an aligner from what their folds never saw."""

import json
from pathlib import Path

import pytest
import torch

from agent.config import settings_of
from agent.consolidate import parser
from agent.train.generator.options import ConsolidateOptions
from agent.train.generator.own import check_shared, fingerprint, unshared
from agent.train.generator.presets import EVALUATED, PRESETS
from agent.train.generator.run import open_consolidation
from agent.train.generator.settings import Settings
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import aligned, variants
from cao.errors import InputError
from cao.model.adapters import adapter_sha256
from cao.progress import silent
from cao.tasks import get_task
from cao.tasks.base import choice_example
from cao.tasks.splits import part
from tests.agent.tiny_pretrained import MODEL
from tests.agent.train.generator.finished import call
from tools.align_lora.aligner import GainAligner
from tools.align_lora.aligner_file import load_aligner
from tools.generate_lora.generator import load_generator
from tools.pretrained import choose

SOURCES = ("openbookqa", "commonsense_qa", "copa", "mmlu_virology")
SIZES = {
    "sources": json.dumps(SOURCES),
    "extra": '{paper = ["openbookqa", "copa"]}',
    "ladder.shapes": "[[4,384,384],[4,8,16],[2,56,8]]",
    "checkpoints.samples": "40",
    "generator.steps": "4",
    "generator.batch": "3",
    "gains.steps": "4",
    "gains.batch": "3",
    "gains.hidden": "8",
    "gains.latent": "4",
    "gains.vector_prompts": "2",
    "prompts_encoded": "8",
    "validated": "3",
}


def command(model: Path, out: Path, *more: str, **changed: str) -> list[str]:
    sizes = [part for key, value in {**SIZES, **changed}.items() for part in ("--set", f"{key}={value}")]
    options = ["--model", MODEL, "--preset", "wide", "--offline", "--out", str(out), "--set", f"model_path={model}"]
    return [*options, *sizes, *more]


@pytest.fixture(scope="module")
def folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds")
    ended = call(command(tiny_model_folder, out))
    assert ended.code == 0, ended.err
    assert "nats on average" in ended.out
    return out / f"consolidate-{MODEL}-wide-s0"


def opened(model: Path, folder: Path) -> Consolidation:
    options = settings_of(ConsolidateOptions, parser().parse_args(command(model, folder.parent)), "consolidate")
    return open_consolidation(Settings(**dict(options)), silent)


@pytest.mark.slow
def test_every_fold_is_served_by_the_others_and_the_full_one_has_the_aligner(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    ((base, shelf),) = index["models"].items()
    found = {each["name"]: each for each in shelf["variants"]}
    assert {name: tuple(each["leaves_out"]) for name, each in found.items()} == {
        "full": (),
        "fold-1": SOURCES[::2],
        "fold-2": SOURCES[1::2],
        "paper": (),
    }
    assert [name for name, each in found.items() if each["aligner"]] == ["full"]
    assert {chosen.name for task in SOURCES[::2] if (chosen := choose(base, task, index=folder / "index.json"))} == {
        "fold-1"
    }
    used = found["full"]["made"]["aligner"]
    assert (used["fold-1"], used["fold-2"]) == (" ".join(SOURCES[::2]), " ".join(SOURCES[1::2]))
    assert not list((folder / "checkpoints").glob("*")) if (folder / "checkpoints").exists() else True
    generator = load_generator(folder / "variants" / "full" / "generator.safetensors")
    path = folder / "variants" / "full" / "aligner.safetensors"
    aligner = load_aligner(path, generator.layout, generator.initial, generator_sha256=generator.sha256)
    assert isinstance(aligner, GainAligner)
    shared = generator.origin + generator.to_residual(generator.unconditional())
    assert torch.allclose(aligner.shared, shared, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_without_folds_there_is_one_generator_and_no_aligner(tiny_model_folder: Path, tmp_path: Path) -> None:
    alone = command(tiny_model_folder, tmp_path, folds="0", extra="{}")
    assert "No aligner" in call([*alone, "--dry-run"]).out
    ended = call(alone)
    assert ended.code == 0, ended.err
    index = json.loads((tmp_path / f"consolidate-{MODEL}-wide-s0" / "index.json").read_text())
    ((_, shelf),) = index["models"].items()
    assert [(each["name"], each.get("aligner")) for each in shelf["variants"]] == [("full", None)]


def test_what_leaves_a_task_out_leaves_out_its_problems_in_other_words() -> None:
    sources = ("gsm8k", "reasoning_gym_gsm_symbolic", "boolq", "sciq")
    preset = PRESETS["wide"].model_copy(update={"sources": sources, "leave_out": ("gsm8k",), "extra": {}})
    made = {variant.name: (variant.sources, variant.leaves_out) for variant in variants(preset)}
    assert made == {
        "full": (sources, ()),
        "without-gsm8k": (("boolq", "sciq"), ("gsm8k",)),
        "fold-1": (("sciq",), ("gsm8k", "boolq")),
        "fold-2": (("boolq",), ("reasoning_gym_gsm_symbolic", "sciq")),
    }


def test_without_checkpoints_there_is_no_aligner() -> None:
    through_the_model = PRESETS["embedded"].generator.model_copy(update={"reconstruction": 0.0})
    assert aligned(PRESETS["embedded"])
    without = PRESETS["embedded"].model_copy(update={"generator": through_the_model})
    assert not aligned(without)
    itself = without.model_copy(update={"aligner": without.aligner.model_copy(update={"target": "generated"})})
    assert aligned(itself) == aligned(PRESETS["embedded"])


@pytest.mark.slow
def test_an_aligner_learns_from_adapters_of_tasks_that_their_generator_never_saw(
    tiny_model_folder: Path, folder: Path
) -> None:
    consolidation = opened(tiny_model_folder, folder)
    one, two = (each for each in variants(consolidation.preset) if each.name.startswith("fold-"))
    answered = consolidation.answered(one.leaves_out[0], one)
    assert answered.adapters.shape[0] == consolidation.preset.pairs
    assert answered.conditions.shape[1] == 2 * consolidation.lm.model.config.hidden_size
    with pytest.raises(InputError, match=r"fold-2 was trained on openbookqa"):
        consolidation.answered(one.leaves_out[0], two)


@pytest.mark.slow
def test_union_train_is_the_same_training_without_prompts(tiny_model_folder: Path, folder: Path) -> None:
    consolidation = opened(tiny_model_folder, folder)
    full = variants(consolidation.preset)[0]
    generator = load_generator(folder / "variants" / "full" / "generator.safetensors")
    union = generator.to_weights(consolidation.union(full), {})
    assert adapter_sha256(union) != adapter_sha256(generator.unconditional())
    assert torch.equal(consolidation.union(full), consolidation.average("unions/full"))


def test_no_source_has_a_question_that_is_reported_on() -> None:
    preset = PRESETS["wide"]
    assert len(preset.sources) >= 100
    assert not {"math", "gsm8k", "social_iqa", "medqa"} & set(preset.sources)
    mine = [choice_example(f"Which is number {i}?", ("a", "b"), 0) for i in range(40)]
    reported = {"other": {fingerprint(choice_example("which IS number  3", ("x", "y"), 1))}}
    assert [example.prompt for example in unshared("source", mine, reported)] == [
        example.prompt for i, example in enumerate(mine) if i != 3
    ]
    assert len(unshared("other", mine, reported)) == 40  # its own questions are its own
    many = {"other": {fingerprint(example) for example in mine[:3]}}
    with pytest.raises(InputError, match="source cannot be a source: 3 of its 40 questions are other's"):
        unshared("source", mine, many)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in PRESETS])
def test_every_preset_may_learn_from_its_sources(name: str) -> None:
    preset = PRESETS[name]
    if name == "wide":
        pytest.importorskip("reasoning_gym")  # some of its sources are made by that extra
    check_shared([*preset.sources, *(task for tasks in preset.extra.values() for task in tasks)])


def test_a_twin_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    given = ["--sources", "openbookqa,mmlu_math", "--preset", "embedded", "--set", "leave_out=[]"]
    ended = call([*given, "--offline", "--out", str(tmp_path), "--dry-run"])
    assert ended.code == 2
    assert "mmlu_math cannot be a source" in ended.err


def test_a_twin_of_a_reported_task_is_refused() -> None:
    twin = [example for example in part(get_task("mmlu_high_school_mathematics"), "train") if example.choices]
    reported = {"math": {fingerprint(example) for example in get_task("math").load()}}
    assert "math" in EVALUATED
    with pytest.raises(InputError, match="mmlu_high_school_mathematics cannot be a source: 34 of its 110"):
        unshared("mmlu_high_school_mathematics", twin, reported)

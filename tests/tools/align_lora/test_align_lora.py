"""Aligning as a tool: finding the aligner behind a generator, and the way from stored adapter to stored adapter."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cao.errors import InputError
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from tests.tools.tiny_training import TINY_ALIGNER
from tools.align_lora import align_lora, find_aligner
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.task_vector import task_vector
from tools.align_lora.training import SourceTask, train_aligner
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

PROMPTS = ["Question: Which of these animals can fly?\nAnswer:", "", "Question: Why do plants need the sun?\nAnswer:"]
WIDTH = 32
QUICK = TINY_ALIGNER.model_copy(
    update={"meta_epochs": 30, "meta_rate": 1e-2, "chunks_per_step": 4, "vector_prompts": 2}
)


@dataclass(frozen=True)
class Source:
    """What an aligner knows of its generator."""

    layout: TokenLayout
    initial: LoraWeights
    base_sha256: str
    sha256: str = "c" * 64


def source_of(lm: LanguageModel) -> Source:
    layout = TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (8, 8))
    return Source(layout, lm.fresh_lora(0), lm.sha256)


def residual(source: Source, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(source.layout.layers, source.layout.length, generator=generator)


def trained(lm: LanguageModel, source: Source) -> TrainedAligner:
    generator = torch.Generator().manual_seed(0)
    made = torch.stack([residual(source, seed) for seed in (1, 2)])
    tasks = [SourceTask("one", made, torch.randn(2, WIDTH, generator=generator), made.mean(0) + 0.05)]
    options = {"preset": QUICK, "seed": 0, "generator_sha256": source.sha256}
    return train_aligner(tasks, source.layout, source.initial, **options)[0]


def generated(source: Source) -> LoraWeights:
    flat = flatten(source.initial.tensors, source.layout) + residual(source, 1)
    return replace(source.initial, tensors=unflatten(flat, source.layout))


def shelve(
    folder: Path, aligner: TrainedAligner, change: Callable[[dict[str, Any]], object] = lambda entry: None
) -> Path:
    """An index with two variants, the second one's generator is ours."""
    aligner.save(folder / "aligner.safetensors")
    entry: dict[str, Any] = {
        "name": "full",
        "sources": ["a"],
        "generator": {"path": "generator.safetensors", "sha256": aligner.header.generator_sha256},
        "aligner": {"path": "aligner.safetensors", "sha256": aligner.sha256},
    }
    part = {"path": "x", "sha256": "e" * 64}
    other = {"name": "other", "sources": ["b"], "generator": part, "aligner": part}
    change(entry)
    index = folder / "index.json"
    index.write_text(
        json.dumps({"format": 1, "models": {aligner.header.base_sha256: {"name": "tiny", "variants": [other, entry]}}})
    )
    return index


def test_a_generated_adapter_is_aligned_and_stored(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    source = source_of(tiny_lm)
    aligner, weights = trained(tiny_lm, source), generated(source)
    reference = save_adapter(tmp_path, weights, "tiny")
    result = align_lora(reference, PROMPTS, lm=tiny_lm, store=tmp_path, aligner=aligner)
    assert result.adapter is not None
    assert (result.reason, result.command) == ("", "")
    stored = load_adapter(Path(result.adapter.path), tiny_lm.sha256)
    expected = aligner.align(weights, task_vector(tiny_lm, weights, PROMPTS, 2))
    assert all(torch.equal(stored.tensors[name], expected.tensors[name]) for name in expected.tensors)
    assert any(not torch.equal(stored.tensors[name], weights.tensors[name]) for name in weights.tensors)
    assert stored.provenance["made_by"] == "align"
    assert stored.provenance["start"] == reference.sha256
    with tiny_lm.adapted(stored) as live:
        assert set(live) == set(stored.tensors)


def test_the_stored_adapter_loads_in_peft(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    from peft import PeftModel

    source = source_of(tiny_lm)
    reference = save_adapter(tmp_path, generated(source), "tiny")
    aligner = trained(tiny_lm, source)
    result = align_lora(reference, PROMPTS, lm=tiny_lm, store=tmp_path, aligner=aligner)
    assert result.adapter is not None
    stored = load_adapter(Path(result.adapter.path))
    model = PeftModel.from_pretrained(tiny_lm.model, result.adapter.path)
    live = {n.replace(".default.", "."): p for n, p in model.named_parameters() if ".lora_" in n}
    assert all(torch.equal(live[name], stored.tensors[name].to(live[name].dtype)) for name in stored.tensors)


def test_prompts_without_a_token_are_a_reason(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    source = source_of(tiny_lm)
    reference = save_adapter(tmp_path, generated(source), "tiny")
    result = align_lora(reference, ["", ""], lm=tiny_lm, store=tmp_path, aligner=trained(tiny_lm, source))
    assert result.adapter is None
    assert "no prompt has a token" in result.reason
    assert result.command == ""


def test_the_shipped_aligner_is_found_by_its_generator(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    source = source_of(tiny_lm)
    aligner = trained(tiny_lm, source)
    index = shelve(tmp_path, aligner)
    found = find_aligner(source, index)
    assert found is not None
    assert found.sha256 == aligner.sha256


def test_without_an_aligner_for_the_generator_there_is_none(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    source = source_of(tiny_lm)
    aligner = trained(tiny_lm, source)
    assert find_aligner(source, tmp_path / "index.json") is None
    index = shelve(tmp_path, aligner)
    assert find_aligner(replace(source, sha256="d" * 64), index) is None
    assert find_aligner(replace(source, base_sha256="d" * 64), index) is None
    assert find_aligner(source, shelve(tmp_path, aligner, lambda entry: entry.update(aligner=None))) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda entry: entry["aligner"].update(sha256="0" * 64),
            "this is aligner .{12}, index.json lists 000000000000",
        ),
        (lambda entry: entry["aligner"].update(path="../aligner.safetensors"), "lies outside of"),
        (lambda entry: entry["aligner"].update(path="gone.safetensors"), r"gone\.safetensors: there is no such file"),
        (lambda entry: entry.pop("generator"), "not an index of trained parts"),
        (lambda entry: entry.update(generator=3), "not an index of trained parts"),
    ],
)
def test_a_wrong_index_is_named(
    tiny_lm: LanguageModel, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    source = source_of(tiny_lm)
    index = shelve(tmp_path, trained(tiny_lm, source), change)
    with pytest.raises(InputError, match=message):
        find_aligner(source, index)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"models": 1}', "[" * 9000])
def test_a_damaged_index_is_named(tiny_lm: LanguageModel, tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(InputError, match=r"index\.json: not an index"):
        find_aligner(source_of(tiny_lm), tmp_path / "index.json")

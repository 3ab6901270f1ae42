"""``size``: every part at a tiny configuration, and what is said of parts that do not fit. No time is asserted."""

from pathlib import Path

import pytest

from agent.train.generator.effort import Efforts
from agent.train.generator.presets import PRESETS
from agent.train.generator.settings import Settings
from cao.errors import InputError
from cao.model.memory import LIBRARIES
from cao.model.profiles import MODELS
from eval.bench.options import SizeBench
from eval.bench.size.configurations import ONE_STEP, SIZES, Size, settings_of
from eval.bench.size.measure import bench, in_own_process, measure
from eval.bench.size.parts import PARTS, Order
from tests.eval.bench.parts import check

TINY = Size(
    name="",
    config={
        **{"vocab_size": 49_200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
    },
    preset="paper-0.5b",
    values={
        **ONE_STEP,
        "ladder": {"shapes": [[4, 384, 384], [4, 8, 16], [8, 16, 32]], "kernel": 3},
        "token": [16, 32],
        "checkpoints": {"warm_steps": 0, "kept_steps": 1, "samples": 20, "batch": 2},
        "generator": {"steps": 1, "tasks": 2},
        "aligner": {"meta_epochs": 1, "widths": [2, 4], "vector_prompts": 2, "chunks_per_step": 2},
        "prompts_encoded": 4,
        "row_tokens": 64,
    },
    sources=("arc_easy", "piqa"),
    tokens=0,
)


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Order:
    return Order(size=TINY, folder=tmp_path_factory.mktemp("size") / "model", dtype="float32", questions=2)


@pytest.mark.parametrize("name", SIZES)
def test_the_sizes_are_the_published_ones(name: str) -> None:
    size = SIZES[name]
    assert size.parameters == MODELS[name].parameters
    assert size.preset == MODELS[name].preset
    one = settings_of(size, Path("nowhere/model"), "float32").resolved()
    assert (one.ladder, one.token) == (PRESETS[size.preset].ladder, PRESETS[size.preset].token)
    assert (one.checkpoints.batch, one.generator.tasks) == (32, 4)
    assert (
        one.checkpoints.warm_steps + one.checkpoints.kept_steps == one.generator.steps == one.aligner.meta_epochs == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_done(name: str, order: Order) -> None:
    reported: list[int] = []
    said = PARTS[name].do(order, lambda label, done, total: reported.append(done))
    assert {
        "weights": f"{TINY.parameters:,} seeded",
        "score": "2 questions",
        "propose": "2 of 2 proposals valid",
        "run": "attempts: Latent, TTL",
        "checkpoints": "2 jobs",
        "generate": "an adapter from 2 prompts, aligned",
    }.get(name, "") in said
    assert PARTS[name].bytes(order, TINY.parameters) >= 0


@pytest.mark.slow
def test_a_part_has_a_process_of_its_own_and_says_its_peak(order: Order) -> None:
    sent = in_own_process(order.model_copy(update={"folder": order.folder.parent / "again"}), "weights")
    assert isinstance(sent["peak"], int)
    assert sent["peak"] > 10**8
    refused = in_own_process(order.model_copy(update={"folder": order.folder.parent / "absent"}), "load")
    assert "seconds" not in refused
    assert "unknown model" in str(refused["note"])


def test_what_does_not_fit_is_said_and_not_begun(tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    options = SizeBench(model="qwen2.5-1.5b", memory=1.0, folder=tmp_path)
    result = bench(options, lambda label, done, total: reported.append((done, total)))
    check(result)
    assert list((tmp_path / "model").iterdir()) == []
    assert [part.seconds for part in result.parts] == [None] * len(PARTS)
    lines = dict(result.lines())
    assert lines["weights: write the model"] == "not done: it takes about 4.1 GB, 1.0 GB may be taken"
    assert lines["score: eval.score"] == "not done: it needs weights"
    assert reported[-1] == (len(PARTS), len(PARTS))


def test_a_part_that_is_none_is_refused(order: Order) -> None:
    with pytest.raises(InputError, match="no part is called 'scores'; known: weights"):
        measure(order, ["scores"])


HELD = {
    ("qwen2.5-0.5b", "checkpoints"): 11.4e9,
    ("qwen2.5-0.5b", "union"): 13.6e9,
    ("qwen2.5-0.5b", "generator"): 13.1e9,
    ("qwen2.5-1.5b", "checkpoints"): 17.7e9,
    ("qwen2.5-1.5b", "union"): 16.9e9,
    ("qwen2.5-1.5b", "generator"): 20.5e9,
}
"""Bytes that a step held in float32: the most of what this benchmark measured."""


@pytest.mark.parametrize(("model", "kind"), HELD)
def test_what_was_held_is_reckoned(model: str, kind: str) -> None:
    size, base = SIZES[model], MODELS[model]
    settings = Settings(model=model, preset=size.preset, sources=list(size.sources), values=size.values, offline=True)
    preset = settings.resolved()
    beside = Efforts(preset, base, preset.row_tokens, 4).of((kind, "full")).memory
    assert HELD[model, kind] <= LIBRARIES + 4 * base.parameters + beside <= 1.5 * HELD[model, kind]

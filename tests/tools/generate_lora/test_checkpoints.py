"""Checkpoint collection: the answers' loss against a plain one, the order of questions, training, and kills."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from torch import Tensor

from cao.errors import InputError
from cao.inference.answer_loss import PART_TOKENS, add_answer_gradient, answer_loss, answer_rows, part_tokens, parts
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.profiles import MODELS
from tests.tools.tiny_training import ANIMALS, TASKS, layout_of, plain_loss, rows_of
from tools.generate_lora.checkpoints import CheckpointPreset, batches, collect
from tools.generate_lora.tokens import unflatten

QUICK = CheckpointPreset(warm_steps=6, warm_rate=1e-2, kept_steps=3, kept_rate=1e-3, batch=4)


def gather(lm: LanguageModel, rows: list[Row] | None = None, **changes: Any) -> tuple[Tensor, list[float]]:
    options: dict[str, Any] = {"initial_seed": 0, "seed": 5}
    options |= {key: changes.pop(key) for key in list(changes) if key not in CheckpointPreset.model_fields}
    preset = QUICK.model_copy(update=changes)
    return collect(lm, rows_of(lm) if rows is None else rows, layout_of(lm), preset=preset, **options)


def test_a_row_is_the_question_with_the_gold_answer_alone(tiny_lm: LanguageModel) -> None:
    for example, row in zip(TASKS["animals"].load(), rows_of(tiny_lm), strict=True):
        span = row.spans[0]
        assert tiny_lm.tokenizer.decode(row.tokens) == f"Question: {example.question}\nAnswer: {example.gold_text}"
        scored = tiny_lm.tokenizer.decode(row.tokens[span.scored : span.end])
        assert scored.strip().endswith(ANIMALS[example.answer])
        assert len(row.spans) == 1
        assert span.end == len(row.tokens)


@pytest.mark.parametrize("limit", [1, 5, 20, 40])
def test_a_long_row_keeps_its_end_and_its_whole_answer(tiny_lm: LanguageModel, limit: int) -> None:
    for row, whole in zip(rows_of(tiny_lm, limit=limit), rows_of(tiny_lm), strict=True):
        span, before = row.spans[0], whole.spans[0]
        assert row.tokens == whole.tokens[len(whole.tokens) - len(row.tokens) :]
        assert row.tokens[span.scored : span.end] == whole.tokens[before.scored : before.end]
        assert span.scored >= row.prompt >= 1
        assert len(row.tokens) == min(len(whole.tokens), max(limit, len(whole.tokens) - whole.prompt + 1))
        assert row.cut == len(whole.tokens) - len(row.tokens)


def test_questions_without_choices_have_no_row(tiny_lm: LanguageModel) -> None:
    free = [example.model_copy(update={"choices": (), "answer": -1}) for example in TASKS["animals"].load()]
    assert answer_rows(tiny_lm, TASKS["animals"], free, 64) == []
    with pytest.raises(InputError, match="without questions with choices cannot be trained on"):
        gather(tiny_lm, [])


def test_the_loss_is_the_answers_alone_row_by_row(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    rows, start = rows_of(tiny_lm), tiny_lm.fresh_lora(0)
    generator = torch.Generator().manual_seed(1)
    tensors = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in start.tensors.items()}
    wanted = plain_loss(tiny_lm, tensors, rows, start.alpha / start.rank)
    with tiny_lm.adapted(replace(start, tensors=tensors)):
        found = answer_loss(tiny_lm, rows, gradient=False)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("tokens", [1, 60, 10**6])
def test_the_gradient_in_parts_is_that_of_the_whole_batch(
    tokens: int, tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_lm.model.float()
    rows, start = rows_of(tiny_lm), tiny_lm.fresh_lora(0)
    tensors = {name: value + 0.05 for name, value in start.tensors.items()}
    with tiny_lm.adapted(replace(start, tensors=tensors), trainable=True) as live:
        loss = answer_loss(tiny_lm, rows, gradient=True)
        loss.backward()  # type: ignore[no-untyped-call]
        wanted = {name: parameter.grad for name, parameter in live.items()}
        for parameter in live.values():
            parameter.grad = None
        monkeypatch.setattr("cao.inference.answer_loss.PART_TOKENS", tokens)
        assert add_answer_gradient(tiny_lm, rows) == pytest.approx(float(loss.detach()), rel=1e-5)
        for name, parameter in live.items():
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, torch.as_tensor(wanted[name]), rtol=1e-3, atol=1e-6), name


@bounded(max_examples=80)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=40))
def test_parts_keep_the_order_and_hold_no_more_than_they_may(lengths: list[int]) -> None:
    rows = [Row(tokens=[0] * length, prompt=1) for length in lengths]
    cut = list(parts(rows, PART_TOKENS))
    assert [row for part in cut for row in part] == rows
    for part, following in zip(cut, [*cut[1:], []], strict=True):
        tokens = sum(len(row.tokens) for row in part)
        assert tokens <= PART_TOKENS or len(part) == 1
        assert not following or tokens + len(following[0].tokens) > PART_TOKENS


def test_a_graph_of_a_larger_model_has_fewer_tokens() -> None:
    widths = {name: MODELS[name].adapter for name in ("smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b")}
    tokens = {name: part_tokens(width) for name, width in widths.items()}
    assert tokens == {"smollm2-135m": 1024, "qwen2.5-0.5b": 1024, "qwen2.5-1.5b": 493}
    assert max(tokens[name] * width for name, width in widths.items()) < 570_000_001
    assert (part_tokens(0), part_tokens(10**12)) == (1024, 1)


def test_padding_is_never_in_the_loss(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_lm.model.float()
    short, long = sorted(rows_of(tiny_lm), key=lambda row: len(row.tokens))[:: len(rows_of(tiny_lm)) - 1]
    assert len(long.tokens) > len(short.tokens) + 5
    alone = [float(answer_loss(tiny_lm, [row], gradient=False)) for row in (short, long)]
    counts = [row.spans[0].end - row.spans[0].scored for row in (short, long)]
    wanted = sum(loss * n for loss, n in zip(alone, counts, strict=True)) / sum(counts)
    assert float(answer_loss(tiny_lm, [short, long], gradient=False)) == pytest.approx(wanted, rel=1e-5)

    def ones(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.ones(*shape, dtype=dtype)

    before = float(answer_loss(tiny_lm, [short, long], gradient=False))
    monkeypatch.setattr(torch, "zeros", ones)  # another token to pad with
    after = float(answer_loss(tiny_lm, [short, long], gradient=False))
    assert after == before


@bounded(max_examples=80)
@given(st.integers(1, 70), st.integers(1, 20), st.integers(1, 30), st.integers(0, 9))
def test_batches_go_through_every_epoch(count: int, size: int, steps: int, seed: int) -> None:
    found = batches(count, size, steps, seed)
    assert [len(step) for step in found] == [size] * steps
    uses = Counter(i for step in found for i in step)
    assert max(uses.values()) - min(uses.get(i, 0) for i in range(count)) <= 1
    assert found == batches(count, size, steps, seed)


def test_another_seed_is_another_order() -> None:
    assert batches(40, 4, 10, 0) != batches(40, 4, 10, 1)


def test_the_last_steps_are_kept_as_residuals(tiny_lm: LanguageModel) -> None:
    residuals, losses = gather(tiny_lm)
    layout = layout_of(tiny_lm)
    assert residuals.shape == (3, layout.layers, layout.length)
    assert residuals.dtype == torch.bfloat16
    assert len(losses) == 9
    steps = (residuals[1:].float() - residuals[:-1].float()).abs().amax((1, 2))
    assert bool((steps > 0).all())  # every one of them is another
    assert bool((steps < 3e-3).all())  # at the second phase's rate, not the first's
    tiny_lm.model.float()
    start = tiny_lm.fresh_lora(0).tensors
    live = {name: value + start[name] for name, value in unflatten(residuals[-1].float(), layout).items()}
    with torch.no_grad():
        trained, plain = (plain_loss(tiny_lm, t, rows_of(tiny_lm), 2.0) for t in (live, start))
    assert float(trained) < 0.8 * float(plain)
    assert sum(losses[-3:]) < sum(losses[:3])


def test_a_phase_may_be_empty(tiny_lm: LanguageModel) -> None:
    residuals, losses = gather(tiny_lm, warm_steps=0, kept_steps=2)
    assert (len(residuals), len(losses)) == (2, 2)


@pytest.mark.parametrize(
    ("looks", "end"),
    [
        ([], 60),
        ([3.0, 2.0, 1.0], 60),
        ([1.0, 1.1], 60),  # one look without a lower loss is not two
        ([1.0, 1.1, 1.0], 30),  # the same is not lower
        ([3.0, 1.0, 1.2, 0.9, 0.8], 60),
        ([3.0, 1.0, 1.2, 1.1], 40),
        ([1.0, 1.1, float("nan")], 30),
        ([5.0, 4.0, 3.0, 2.0, 2.1, 2.2, 2.3], 60),  # no further than the preset's steps
    ],
)
def test_the_first_phase_ends_where_the_loss_on_questions_held_back_stops_falling(looks: list[float], end: int) -> None:
    assert CheckpointPreset(warm_steps=60, patience=2).warm_until(looks) == end
    assert CheckpointPreset(warm_steps=60).warm_until(looks) == 60


def test_a_training_with_patience_ends_early_and_looks_at_no_question_that_it_learns_from(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.generate_lora.checkpoints.LOOK_EVERY", 2)
    rows, looked_at = rows_of(tiny_lm), rows_of(tiny_lm, "numbers")
    losses = iter([3.0, 2.0, 2.5, 2.25])

    def look(lm: LanguageModel, given: Sequence[Row], *, gradient: bool) -> Tensor:
        assert [row.tokens for row in given] == [row.tokens for row in looked_at]
        assert not gradient
        return torch.tensor(next(losses))

    monkeypatch.setattr("tools.generate_lora.checkpoints.answer_loss", look)
    patient = {"warm_steps": 20, "patience": 2, "held_back": looked_at}
    residuals, taken = gather(tiny_lm, rows, **patient)
    assert (len(residuals), len(taken)) == (3, 8 + 3)
    monkeypatch.undo()
    straight, same = gather(tiny_lm, rows, warm_steps=8)
    assert same == taken
    assert torch.equal(straight, residuals)
    with pytest.raises(InputError, match="patience looks at questions held back, and there are none"):
        gather(tiny_lm, rows, patience=2)


@pytest.mark.parametrize("patience", [0, 1])
@pytest.mark.parametrize("kill_at", [1, 6, 8])
def test_a_killed_collection_goes_on_to_the_same_bits(
    tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, patience: int
) -> None:
    monkeypatch.setattr("tools.generate_lora.checkpoints.LOOK_EVERY", 1)
    checkpoint, seen = tmp_path / "animals.partial", []
    looking = {"patience": patience, "held_back": rows_of(tiny_lm, "numbers")}
    whole, losses = gather(tiny_lm, **looking)
    steps = len(losses)
    assert steps == 9 or patience

    def kill(label: str, done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == kill_at:
            raise KeyboardInterrupt

    options = {"checkpoint": checkpoint, "checkpoint_every_s": 0, "progress": kill, **looking}
    with pytest.raises(KeyboardInterrupt) if kill_at <= steps else contextlib.nullcontext():
        gather(tiny_lm, **options)
    resumed, again = gather(tiny_lm, **options)
    assert [done for done, _ in seen] == list(range(1, steps + 1))  # no step was taken twice
    assert seen[-1] == (steps, steps)
    assert patience or seen == [(done, 9) for done in range(1, 10)]
    assert again == losses
    assert torch.equal(resumed, whole)


def test_another_collections_checkpoint_is_not_taken(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    checkpoint, few = tmp_path / "animals.partial", {"warm_steps": 1, "kept_steps": 1}
    gather(tiny_lm, checkpoint=checkpoint, checkpoint_every_s=0, **few)
    for changes in ({"seed": 6}, {"initial_seed": 1}, {"kept_rate": 2e-3}, {"rows": rows_of(tiny_lm, "numbers")}):
        alone = gather(tiny_lm, **few, **changes)
        beside = gather(tiny_lm, **few, **changes, checkpoint=checkpoint, checkpoint_every_s=1e9)
        assert torch.equal(alone[0], beside[0])


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_checkpoint_is_refused(
    tiny_lm: LanguageModel, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = tmp_path / "animals.partial"
    gather(tiny_lm, checkpoint=checkpoint, checkpoint_every_s=0)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(InputError, match=r"animals\.partial: damaged .*; delete it"):
        gather(tiny_lm, checkpoint=checkpoint)


def test_a_collection_that_diverges_ends_in_an_error(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"diverged .the loss is not a number"):
        gather(tiny_lm, warm_rate=1e30)

    def spoil(parameters: list[Tensor], limit: float) -> None:
        assert limit == 1.0
        parameters[0].grad.fill_(float("nan"))  # type: ignore[union-attr]

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoil)
    with pytest.raises(InputError, match=r"diverged .a weight is not finite"):  # only the last step, no loss after it
        gather(tiny_lm, warm_steps=0, kept_steps=1)
    assert not any("lora" in name for name, _ in tiny_lm.model.named_modules())  # the model is undressed again

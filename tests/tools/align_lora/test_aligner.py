"""The aligner: what aligning does to an adapter, and which adapters are refused."""

from dataclasses import replace

import pytest
import torch

from cao.errors import InputError
from cao.model.adapters import adapter_sha256
from tests.tools.align_lora.tiny_aligners import TASKS, WIDTH, adapter
from tools.align_lora import aligner as module
from tools.align_lora.aligner import VECTOR_LIMIT, TrainedAligner


def test_an_unseen_vector_is_held_within_bounds(trained: TrainedAligner) -> None:
    far = trained.standardise(torch.full((WIDTH,), 1e9))
    assert far.tolist() == [VECTOR_LIMIT] * WIDTH
    generated = adapter(TASKS[0].generated[0])
    one, other = (trained.align(generated, torch.full((WIDTH,), x)) for x in (1e9, 1e30))
    assert adapter_sha256(one) == adapter_sha256(other)


def test_aligning_in_blocks_is_aligning_at_once(trained: TrainedAligner, monkeypatch: pytest.MonkeyPatch) -> None:
    generated = adapter(TASKS[0].generated[0])
    whole = trained.align(generated, TASKS[0].vectors[0])
    monkeypatch.setattr(module, "BLOCK", 1)
    parts = trained.align(generated, TASKS[0].vectors[0])
    assert all(torch.allclose(whole.tensors[name], parts.tensors[name], atol=1e-6) for name in whole.tensors)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_never_aligned(trained: TrainedAligner, bad: float) -> None:
    good, vector = TASKS[0].generated[0], TASKS[0].vectors[0]
    broken = good.clone()
    broken[1, 7] = bad
    with pytest.raises(InputError, match="not finite"):
        trained.align(adapter(broken), vector)
    with pytest.raises(InputError, match="not finite"):
        trained.align(adapter(good), vector * bad)
    with pytest.raises(InputError, match="not finite"):
        trained.align(adapter(torch.full_like(good, 3e38)), vector)  # finite, but no longer after the encoder


def test_adapters_that_do_not_fit_are_refused(trained: TrainedAligner) -> None:
    generated, vector = adapter(TASKS[0].generated[0]), TASKS[0].vectors[0]
    with pytest.raises(InputError, match="base model dddddddddddd, the aligner for bbbbbbbbbbbb"):
        trained.align(replace(generated, base_sha256="d" * 64), vector)
    with pytest.raises(InputError, match="rank 4 and alpha 16, the aligner's layout 4 and 8"):
        trained.align(replace(generated, alpha=16), vector)
    with pytest.raises(InputError, match="does not fit"):
        trained.align(replace(generated, tensors=dict(list(generated.tensors.items())[:-2])), vector)
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        trained.align(generated, vector[:5])

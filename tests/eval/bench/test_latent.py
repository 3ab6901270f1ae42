"""SLOT over batches beside a plain sample at a time. No time is asserted."""

import pytest
import torch

from cao.model.language_model import LanguageModel
from eval.bench import latent
from eval.bench.plain import slot as plain_slot
from tests.eval.bench.parts import PROMPTS, check


def test_slot_equals_a_plain_sample_at_a_time(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    prompts = [tiny_lm.encode(text) for text in PROMPTS]
    for batch in latent.batched(prompts):
        ours = latent.deltas(tiny_lm, batch, latent.hidden_of(tiny_lm, batch))
        for row, i in enumerate(batch[0]):
            plain = plain_slot.forward_each_step(tiny_lm, prompts[i], latent.STEPS, latent.RATE)
            torch.testing.assert_close(ours[row], plain, atol=1e-4, rtol=0)
            states = plain_slot.states_of(tiny_lm, torch.tensor([prompts[i]]))[:-1]
            kept = plain_slot.cached(
                states, torch.tensor(prompts[i][1:]), tiny_lm.head.weight, latent.STEPS, latent.RATE
            )
            torch.testing.assert_close(kept, plain, atol=1e-4, rtol=0)


def test_batches_of_prompts_hold_each_once(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "TOKEN_BUDGET", 12)
    found = latent.batched([[1] * 5, [2], [3] * 6, [4] * 4, [5] * 20])
    assert [batch[0] for batch in found] == [[4], [2, 0], [3, 1]]
    assert [batch[2].sum(1).tolist() for batch in found] == [[19], [5, 4], [3, 0]]


def test_latent_has_its_keys(tiny_lm: LanguageModel) -> None:
    result = latent.bench(tiny_lm, [tiny_lm.encode(text) for text in PROMPTS], repetitions=2)
    check(result)
    assert set(result.ratios) == {"forward_each_step", "cached", "steps_alone", "step"}
    assert result.largest_difference["float32"] < 1e-4
    assert len(result.lines()) == 6

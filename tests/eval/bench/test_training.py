"""Our LoRA loops beside the public trainer's. No time is asserted."""

import pytest

from cao.model.language_model import LanguageModel
from eval.bench.plain.training import collate, weighted_loss
from eval.bench.training import loops, measure
from tests.eval.bench.parts import PROMPTS, check
from tests.tools.tiny_training import TASKS, rows_of
from tools.apply_strategy.ttl_loss import prompt_losses, sample_weight


def test_padding_is_ignored_by_the_plain_loop() -> None:
    found = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}])
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert found["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_the_plain_weighted_loss_is_ttls(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    ids = [tiny_lm.encode(text) for text in PROMPTS[:2]]
    losses = prompt_losses(tiny_lm, ids)
    batch = collate([{"input_ids": row, "labels": row} for row in ids])
    logits = tiny_lm.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    wanted = float((sample_weight(losses) * losses).mean())
    assert float(weighted_loss(logits, batch["labels"])) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_both_loops_learn_the_same(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    prompts = loops.surprising(tiny_lm, [e.prompt for e in TASKS["animals"].load()], 8)
    assert len(prompts) == 8
    result = measure.bench(tiny_lm, rows_of(tiny_lm)[:8], prompts, batch=4, repetitions=2, memory_counts=(8, 16))
    check(result)
    assert set(result.ratios) == {"checkpoints", "ttl"}
    assert set(result.ttl_memory_mb) == {"8", "16"}
    for name in result.ratios:
        loss = result.loops[name].loss
        assert loss.ours == pytest.approx(loss.theirs, rel=1e-2)
        assert loss.ours < loss.before
    assert not any("lora" in name for name, _ in tiny_lm.model.named_modules())
    assert len(result.lines()) == 5

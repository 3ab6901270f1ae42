"""TTL with prompt tuning: losses and gradients by a slow plain version, training to the bit, and what is refused."""

import math
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from pydantic import ValidationError
from torch import Tensor

from cao.errors import NotApplicableError
from cao.model.language_model import LanguageModel
from cao.model.soft_prompt.either import carried_sha256, load_carried, save_carried
from cao.model.soft_prompt.weights import EMBEDDINGS, SoftPrompt
from cao.strategies.base import Pace, Standing
from cao.strategies.ttl import PROMPT_RATE, TTL, TTLSettings
from cao.strategy import StrategyRejectedError, restore_strategy, validate_strategy
from cao.types import MOST_VIRTUAL_TOKENS, AdaptedModel, StrategyFields
from tests.tools.apply_strategy.test_ttl import PROMPTS, moved
from tools.apply_strategy import apply_strategy
from tools.apply_strategy.ttl import perplexities, train_ttl
from tools.apply_strategy.ttl_loss import prompt_losses

PLAIN: StrategyFields = {
    **{"family": "TTL", "ttl_steps": 6, "learning_rate": 1e-3, "batch_size": 3, "shuffle_data": True},
    "peft": "prompt",
}


def settings(**changes: object) -> TTL:
    return TTL.model_validate({**PLAIN, **changes})


@pytest.fixture
def lm(tiny_lm: LanguageModel) -> LanguageModel:
    """The tiny model in float32, so that comparisons are not about rounding."""
    tiny_lm.model = tiny_lm.model.float()
    return tiny_lm


def test_losses_and_gradients_are_those_of_pefts_own_forward(lm: LanguageModel) -> None:
    start = lm.fresh_soft_prompt(5, 1)
    rows = [lm.encode(prompt) for prompt in PROMPTS]
    with lm.adapted(start, trainable=True) as live:
        ours = prompt_losses(lm, rows, divisor=len(rows))
        (gradient,) = [parameter.grad for parameter in live.values()]
        assert torch.allclose(prompt_losses(lm, rows), ours, atol=1e-5)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    theirs = get_peft_model(lm.model, config)
    embedding = theirs.prompt_encoder["default"].embedding
    embedding.weight.data = start.tensors[EMBEDDINGS].clone()
    losses, total = [], torch.zeros(())
    for row in rows:
        logits: Tensor = theirs(input_ids=torch.tensor([row])).logits[0, 5:]
        loss = torch.nn.functional.cross_entropy(logits[:-1].float(), torch.tensor(row[1:]))
        excess = loss.item() - 3.0
        total = total + loss * (min(0.1 * math.exp(excess), 1.0) if excess > 0 else 0.0) / len(rows)
        losses.append(loss.item())
    total.backward()
    assert ours.tolist() == pytest.approx(losses, abs=1e-4)
    assert gradient is not None
    assert torch.allclose(gradient, embedding.weight.grad, atol=1e-5)
    assert float(gradient.abs().max()) > 1e-3


def test_the_loss_falls_the_base_stays_and_a_kill_changes_nothing(lm: LanguageModel, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    start, chosen, file = lm.fresh_soft_prompt(8, 0), settings(ttl_steps=12), tmp_path / "ttl.safetensors"
    whole = train_ttl(lm, PROMPTS, chosen, start, 5)
    assert set(lm.model.state_dict()) == set(before)
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    assert whole.tensors[EMBEDDINGS].shape == start.tensors[EMBEDDINGS].shape
    assert float(whole.provenance["loss_after"]) < float(whole.provenance["loss_before"]) - 0.1
    first, last = (sum(map(math.log, perplexities(lm, PROMPTS, weights))) for weights in (start, whole))
    assert last < first - 0.5

    def kill(label: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ttl(lm, PROMPTS, chosen, start, 5, progress=kill, checkpoint=file, checkpoint_every_s=0)
    resumed = train_ttl(lm, PROMPTS, chosen, start, 5, checkpoint=file)
    assert carried_sha256(resumed) == carried_sha256(whole)


def test_a_second_one_goes_on_from_the_first_and_is_written_as_peft_reads_it(lm: LanguageModel, tmp_path: Path) -> None:
    standing = Standing(AdaptedModel(), "tiny", generator=False)
    once = apply_strategy(settings(virtual_tokens=3), PROMPTS, standing, 7, lm=lm, store=tmp_path)
    (first,) = once.members
    assert first is not None
    assert (first.virtual_tokens, first.rank) == (3, 0)
    assert "3 virtual tokens before each prompt" in once.note
    twice = apply_strategy(settings(), PROMPTS, Standing(once, "tiny", generator=False), 7, lm=lm, store=tmp_path)
    (second,) = twice.members
    assert second is not None
    read = load_carried(Path(second.path), lm.sha256)
    assert read.provenance["start"] == first.sha256 != second.sha256
    assert second.virtual_tokens == 3  # the number is of a fresh one
    again = apply_strategy(settings(virtual_tokens=3), PROMPTS, standing, 7, lm=lm, store=tmp_path / "other")
    assert again.members[0] is not None
    one, other = (Path(each.path) for each in (first, again.members[0]))
    assert {file.name: file.read_bytes() for file in one.iterdir()} == {
        file.name: file.read_bytes() for file in other.iterdir()
    }


def test_lora_and_a_soft_prompt_are_not_put_together(lm: LanguageModel, tmp_path: Path) -> None:
    carried = AdaptedModel(members=(save_carried(tmp_path, lm.fresh_soft_prompt(2, 0), "base"),))
    lora = AdaptedModel(members=(save_carried(tmp_path, moved(lm), "base"),))
    for strategy, current, said in (
        ({**PLAIN, "peft": "lora"}, carried, "carries a soft prompt"),
        ({**PLAIN, "peft": "dora"}, carried, "peft=dora needs another start"),
        ({"family": "LORA", "lambda": 0.5}, carried, "no matrices to mix or scale"),
        ({"family": "LORA", "lambda": 0.5, "reading": "strength"}, carried, "no matrices to mix or scale"),
        (PLAIN, lora, "carries LoRA"),
    ):
        standing = Standing(current, "tiny", generator=False)
        with pytest.raises(NotApplicableError, match=said):
            apply_strategy(restore_strategy(strategy), PROMPTS, standing, 0, lm=lm, store=tmp_path)
    assert "carries LoRA" in str(TTL.obstacle(Standing(lora, "tiny", generator=False, peft="prompt")))
    assert TTL.obstacle(Standing(lora, "tiny", generator=False)) is None
    assert TTL.obstacle(Standing(carried, "tiny", generator=False, peft="prompt")) is None


def test_the_pool_answers_beside_a_soft_prompt(lm: LanguageModel, tmp_path: Path) -> None:
    carried = AdaptedModel(members=(save_carried(tmp_path, lm.fresh_soft_prompt(2, 0), "base"),))
    strategy = restore_strategy({"family": "TTS", "num_prompt_batches": 1, "method": "sum_logprobs", "members": "pool"})
    made = apply_strategy(strategy, PROMPTS, Standing(carried, "tiny", generator=False), 0, lm=lm, store=tmp_path)
    assert made.members == (None, carried.members[0])
    assert "cosines" not in made.note


def test_the_setting_has_bounds_and_a_rate_of_its_own(lm: LanguageModel) -> None:
    for wrong in ({"virtual_tokens": 0}, {"virtual_tokens": MOST_VIRTUAL_TOKENS + 1}, {"peft": "prefix"}):
        with pytest.raises(StrategyRejectedError):
            validate_strategy({**PLAIN, **wrong})
        with pytest.raises(ValidationError):
            TTLSettings.model_validate(wrong)
    with pytest.raises(StrategyRejectedError, match="peft=prompt trains none"):
        validate_strategy({**PLAIN, "subset": "layers"})
    with pytest.raises(ValidationError, match="peft=prompt trains none"):
        TTLSettings(peft="prompt", subset="modules")
    plain = restore_strategy({key: value for key, value in PLAIN.items() if key != "peft"})
    added = TTLSettings(peft="prompt", virtual_tokens=4).added(plain)
    assert isinstance(added, TTL)
    assert (added.peft, added.virtual_tokens, added.rate) == ("prompt", 4, PROMPT_RATE * 1e-3)
    assert isinstance(plain, TTL)
    assert plain.rate == 1e-3
    assert added.canonical() == {**PLAIN, "virtual_tokens": 4}
    assert settings().canonical() == PLAIN
    pace = Pace(prompts=8, tokens=40.0, read=1e-3, scored=1e-3, each=0.1)
    assert added.price(pace).times == pytest.approx(1.1)
    assert added.price(pace).seconds > plain.price(pace).seconds
    assert isinstance(lm.fresh_soft_prompt(4, 0), SoftPrompt)

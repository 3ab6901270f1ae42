"""Each family of models, given as a folder: LoRA where it belongs, and everything computed as the model alone does."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from cao.configuration import Machine
from cao.errors import InputError
from cao.inference.scoring import context_length
from cao.model.adapters import LoraWeights, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.profile_settings import ProfileSettings
from cao.strategies.ttl import TTL
from cao.tasks.base import Task, choice_example
from cao.types import AdaptedModel, LatentSettings
from tests.cao.model.families import BASE, FAMILIES, family_model
from tests.cao.model.test_agreement import ROW, own_score, scores
from tools.align_lora.task_vector import mean_state
from tools.apply_strategy.ttl import train_ttl
from tools.evaluate import evaluate
from tools.generate_lora.tokens import TokenLayout

PROMPTS = ["Question: Which of these animals can fly?", "Why do plants need the sun?"]
EXAMPLES = [choice_example(prompt, ("the bird", "to sleep", "a fish"), i) for i, prompt in enumerate(PROMPTS)]
TASK = Task("tiny", "Tiny", "a test", lambda: EXAMPLES)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tiny_model_folder: Path, tmp_path: Path) -> tuple[str, LanguageModel]:
    """A family's name and its tiny model, loaded as ``--model DIR`` is."""
    return request.param, family_model(request.param, tmp_path / "model", tiny_model_folder)


def random_lora(lm: LanguageModel) -> LoraWeights:
    weights = lm.fresh_lora(0)
    for name, tensor in weights.tensors.items():
        if "lora_B" in name:
            tensor.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    return weights


def test_a_family_is_scored_trained_and_adapted_as_its_own_forward_does(
    family: tuple[str, LanguageModel], tmp_path: Path
) -> None:
    name, lm = family
    assert lm.profile.lora_targets == FAMILIES[name][1]
    plain = [own_score(lm, ROW, span) for span in ROW.spans]
    assert scores(lm, ROW) == pytest.approx(plain, abs=1e-3)

    weights = random_lora(lm)
    with lm.adapted(weights):
        adapted = scores(lm, ROW)
    folder = save_adapter(tmp_path / "store", weights, lm.source).path
    base = AutoModelForCausalLM.from_pretrained(lm.source, dtype=torch.float32)
    by_peft = PeftModel.from_pretrained(base, folder).eval()
    for span, found, bare in zip(ROW.spans, adapted, plain, strict=True):
        ids = torch.tensor([ROW.tokens[: ROW.prompt] + ROW.tokens[span.start : span.end]])
        with torch.no_grad():
            logs = by_peft(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        first = ROW.prompt + span.scored - span.start
        own = sum(float(logs[t - 1, ids[0, t]]) for t in range(first, ids.shape[1]))
        assert found == pytest.approx(own, abs=1e-3)
        assert abs(found - bare) > 1e-2

    ttl = TTL(family="TTL", ttl_steps=2, learning_rate=1e-3, batch_size=2, shuffle_data=True)
    trained = train_ttl(lm, PROMPTS, ttl, lm.fresh_lora(0), 0)
    changed = {key.split(".")[-3] for key, value in trained.tensors.items() if "lora_B" in key and value.any()}
    assert changed == set(lm.profile.lora_targets)
    assert all(bool(value.isfinite().all()) for value in trained.tensors.values())

    latent = AdaptedModel(members=(None,), latent=LatentSettings(slot_steps=2, slot_lr=0.1))
    before, after = (evaluate(TASK, EXAMPLES, each, "likelihood", lm=lm) for each in (AdaptedModel(), latent))
    for a, b in zip(before, after, strict=True):
        assert all(math.isfinite(score) for score in b.scores)
        assert a.scores != b.scores


@pytest.mark.parametrize("name", ["Phi3", "GPTNeoX"])
def test_a_generator_has_no_token_layout_for_fused_layers_and_says_so(
    name: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    lm = family_model(name, tmp_path, tiny_model_folder)
    with pytest.raises(InputError, match="not a module with LoRA inside a numbered layer") as refused:
        TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (8, 8))
    assert "\n" not in str(refused.value)


def test_a_model_that_sees_pictures_too_is_read_by_what_reads_text(tiny_model_folder: Path, tmp_path: Path) -> None:
    text = {"head_dim": 8, "sliding_window": 12, **BASE}
    tower = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text, vision_config={**tower, "image_size": 28, "patch_size": 14})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    for file in [*tiny_model_folder.glob("*token*"), *tiny_model_folder.glob("chat_template*")]:
        shutil.copy(file, tmp_path / file.name)
    settings = ProfileSettings(answer_style="text")
    lm = load_model(Machine(model=str(tmp_path), profile=settings, dtype="float32", offline=True))
    assert (context_length(lm), lm.paths.longest) == (512, 12)
    assert lm.lora_shapes()
    assert all("language_model" in name for name in lm.lora_shapes())
    assert scores(lm, ROW) == pytest.approx([own_score(lm, ROW, span) for span in ROW.spans], abs=1e-3)
    assert mean_state(lm, PROMPTS, 2).shape == (32,)

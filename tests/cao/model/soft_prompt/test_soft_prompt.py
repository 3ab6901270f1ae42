"""A soft prompt computes what PEFT's prompt tuning does, shares nothing with the model without it, and is no trap."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from cao.configuration import Machine
from cao.errors import InputError, NotApplicableError
from cao.inference.generation import generate
from cao.inference.hidden_cache import HiddenCache
from cao.inference.scoring import plan_row, score_queries
from cao.model.adapters import load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.soft_prompt.either import carried_sha256, load_carried, reference, save_carried
from cao.model.soft_prompt.weights import EMBEDDINGS, SoftPrompt, load_soft_prompt, save_soft_prompt
from cao.model.start_adapter import attach_adapter
from cao.profile_settings import ProfileSettings
from cao.types import CONFIG_FILE, MOST_VIRTUAL_TOKENS, WEIGHTS_FILE, Branch, LatentSettings, Query
from tests.cao.model.families import family_model, save_family
from tools.apply_strategy.latent import moving

CHOICES = tuple(Branch(scored=text) for text in (" the bird", " to sleep", " the bees"))
QUERIES = [
    Query(prefix="Question: Which of these animals can fly?\nAnswer:", branches=CHOICES),
    Query(prefix="Question: Why do plants need the sun, and what of the rain?\nAnswer:", branches=CHOICES),
    Query(prefix="", branches=CHOICES[:2]),
]


def test_a_model_with_embeddings_in_every_layer_takes_no_soft_prompt(tiny_model_folder: Path, tmp_path: Path) -> None:
    lm = family_model("Gemma3n", tmp_path, tiny_model_folder)
    with pytest.raises(NotApplicableError, match="has embeddings in every layer"):
        lm.fresh_soft_prompt(3, 0)
    with pytest.raises(NotApplicableError, match="has embeddings in every layer"), lm.adapted(soft(lm)):
        pass


def soft(lm: LanguageModel, tokens: int = 5, seed: int = 3) -> SoftPrompt:
    """Virtual tokens that are no tokens of the vocabulary."""
    start = lm.fresh_soft_prompt(tokens, seed)
    noise = torch.randn(start.tensors[EMBEDDINGS].shape, generator=torch.Generator().manual_seed(seed))
    return SoftPrompt({EMBEDDINGS: start.tensors[EMBEDDINGS] + 0.3 * noise}, lm.sha256)


def by_peft(lm: LanguageModel, weights: SoftPrompt, store: Path) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(lm.source, dtype=torch.float32)
    return PeftModel.from_pretrained(base, save_soft_prompt(store, weights, lm.source).path).eval()


@torch.no_grad()
def peft_logits(model: PeftModel, ids: list[int]) -> Tensor:
    """PEFT's own forward of one text, at the text's own tokens."""
    logits: Tensor = model(input_ids=torch.tensor([ids])).logits[0]
    return logits[-len(ids) :].float().log_softmax(-1)


def peft_scores(lm: LanguageModel, model: PeftModel, query: Query) -> list[float]:
    row = plan_row(lm, query)  # without virtual tokens: the model carries none here
    found = []
    for span in row.spans:
        ids = row.tokens[: row.prompt] + row.tokens[span.start : span.end]
        logs, first = peft_logits(model, ids), row.prompt + span.scored - span.start
        found.append(sum(float(logs[t - 1, ids[t]]) for t in range(first, len(ids))))
    return found


@pytest.fixture(params=["Qwen2", "Llama", "Mistral", "Gemma3", "GPTNeoX"])
def family(request: pytest.FixtureRequest, tiny_model_folder: Path, tmp_path: Path) -> LanguageModel:
    folder = save_family(request.param, tmp_path / "model", tiny_model_folder)
    settings = ProfileSettings(answer_style="text")
    return load_model(Machine(model=str(folder), profile=settings, dtype="float32", offline=True))


def test_it_scores_and_writes_as_pefts_own_model_does(family: LanguageModel, tmp_path: Path) -> None:
    lm, weights = family, soft(family)
    model = by_peft(lm, weights, tmp_path / "store")
    wanted = [peft_scores(lm, model, query) for query in QUERIES]
    plain = score_queries(lm, QUERIES)
    with lm.adapted(weights):
        scored = score_queries(lm, QUERIES)
        written = generate(lm, [query.prefix for query in QUERIES[:2]], max_new_tokens=6)
    for query, theirs in zip(scored, wanted, strict=True):
        assert [branch.logprob for branch in query.branches] == pytest.approx(theirs, abs=1e-3)
    assert score_queries(lm, QUERIES) == plain
    assert plain[0].branches[0].logprob != pytest.approx(wanted[0][0], abs=1e-2)
    for query, ours in zip(QUERIES, written, strict=False):
        ids, total = lm.encode(query.prefix), 0.0
        for _ in range(ours.tokens):
            value, token = peft_logits(model, ids)[-1].max(-1)
            ids, total = [*ids, int(token)], total + float(value)
        assert ours.logprob == pytest.approx(total, abs=1e-3)
        assert lm.tokenizer.decode(ids).startswith(query.prefix + ours.text)


@pytest.fixture
def lm(tiny_lm: LanguageModel) -> LanguageModel:
    tiny_lm.model = tiny_lm.model.float()
    return tiny_lm


def test_kept_hidden_states_are_those_of_one_soft_prompt_alone(lm: LanguageModel) -> None:
    cache = HiddenCache()
    found = []
    for weights in (None, soft(lm), soft(lm, seed=4), soft(lm, 6), None, soft(lm)):
        read = cache.reader(weights and carried_sha256(weights))
        with lm.adapted(weights):
            kept = score_queries(lm, QUERIES, read=read)
            assert kept == score_queries(lm, QUERIES)
        found.append(kept)
    assert found[0] == found[4]
    assert found[1] == found[5]
    assert len({str(one) for one in found}) == 4
    assert cache.reused == 2 * len(QUERIES)


def test_the_context_is_shared_and_the_virtual_tokens_stay(lm: LanguageModel) -> None:
    lm.model.config.max_position_embeddings = 40
    long = QUERIES[0].model_copy(update={"prefix": "the bird can fly " * 40})
    before, vocabulary = plan_row(lm, long), lm.model.config.vocab_size
    with lm.adapted(soft(lm)):
        row = plan_row(lm, long)
        assert row.tokens[:5] == lm.virtual == list(range(vocabulary, vocabulary + 5))
        (written,) = generate(lm, [long.prefix], max_new_tokens=8)
    assert row.cut == before.cut + 5
    assert row.tokens[5 : row.prompt] == before.tokens[5 : before.prompt]
    assert written.cut == len(lm.encode(long.prefix)) - (40 - 5 - 8)
    assert lm.virtual == []


def test_latents_vector_is_fitted_to_the_prompts_own_tokens(lm: LanguageModel) -> None:
    move = moving(LatentSettings(slot_steps=3, slot_lr=0.1))
    with lm.adapted(soft(lm)):
        moved, still = score_queries(lm, QUERIES, move=move), score_queries(lm, QUERIES)
    assert moved[0] != still[0]
    assert moved[2] == still[2]  # a prompt of one own token has nothing to fit to


def test_a_fresh_one_is_of_ordinary_tokens_and_a_seed(lm: LanguageModel) -> None:
    first, again, other = (lm.fresh_soft_prompt(8, seed) for seed in (1, 1, 2))
    assert carried_sha256(first) == carried_sha256(again) != carried_sha256(other)
    own = lm.model.get_input_embeddings().weight
    control = own[torch.tensor(lm.tokenizer.all_special_ids)]
    for row in first.tensors[EMBEDDINGS]:
        assert bool((own == row).all(1).any())
        assert not bool((control == row).all(1).any())


def test_a_fresh_one_is_as_texts_have_it_where_a_model_scales_its_embeddings(lm: LanguageModel) -> None:
    plain = lm.fresh_soft_prompt(4, 1).tensors[EMBEDDINGS]
    handle = lm.model.get_input_embeddings().register_forward_hook(lambda _, __, rows: 3 * rows)
    try:
        scaled = lm.fresh_soft_prompt(4, 1).tensors[EMBEDDINGS]
    finally:
        handle.remove()
    assert torch.allclose(scaled, 3 * plain)


def test_a_folder_is_read_as_it_was_written(lm: LanguageModel, tmp_path: Path) -> None:
    weights = soft(lm)
    kept = save_carried(tmp_path, weights, lm.source)
    read = load_carried(Path(kept.path), lm.sha256)
    assert isinstance(read, SoftPrompt)
    assert torch.equal(read.tensors[EMBEDDINGS], weights.tensors[EMBEDDINGS])
    assert (kept.rank, kept.virtual_tokens, kept.sha256) == (0, 5, carried_sha256(read))
    assert reference(kept.path, read, lm.sha256) == kept
    assert save_carried(tmp_path, read, lm.source) == kept
    lora = save_carried(tmp_path, lm.fresh_lora(0), lm.source)
    assert lora == save_adapter(tmp_path, lm.fresh_lora(0), lm.source)
    assert (lora.virtual_tokens, carried_sha256(load_carried(Path(lora.path)))) == (0, lora.sha256)


CONFIG = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 4, "token_dim": 32}
ROWS = {EMBEDDINGS: torch.ones(4, 32)}


def folder_of(place: Path, config: object, tensors: dict[str, Tensor]) -> Path:
    place.mkdir(exist_ok=True)
    (place / CONFIG_FILE).write_text(config if isinstance(config, str) else json.dumps(config))
    save_file(tensors, place / WEIGHTS_FILE)
    return place


def test_a_folder_of_pefts_own_is_read(lm: LanguageModel, tmp_path: Path) -> None:
    read = load_soft_prompt(folder_of(tmp_path / "theirs", CONFIG, ROWS), lm.sha256)
    lm.check_fit(read)
    assert (read.tokens, read.base_sha256) == (4, lm.sha256)


@pytest.mark.parametrize(
    ("changes", "tensors", "said"),
    [
        ({"num_virtual_tokens": 5}, ROWS, "5 x 32 numbers"),
        ({"token_dim": 31}, ROWS, "4 x 31 numbers"),
        ({}, {EMBEDDINGS: torch.ones(4 * 32)}, "4 x 32 numbers"),
        ({}, {**ROWS, "more": torch.ones(1)}, "the one tensor"),
        ({}, {"prompt": torch.ones(4, 32)}, "the one tensor"),
        ({}, {EMBEDDINGS: torch.full((4, 32), torch.nan)}, "not finite"),
        ({"num_virtual_tokens": MOST_VIRTUAL_TOKENS + 1}, {EMBEDDINGS: torch.ones(65, 32)}, "between 1 and 64"),
        ({"num_virtual_tokens": 0}, {EMBEDDINGS: torch.ones(0, 32)}, "between 1 and 64"),
        ({"num_virtual_tokens": True}, {EMBEDDINGS: torch.ones(1, 32)}, "is not bool"),
        ({"num_virtual_tokens": 10**30}, ROWS, "between 1 and 64"),
        ({"token_dim": "32"}, ROWS, "token_dim"),
        ({"task_type": "SEQ_2_SEQ_LM"}, ROWS, "causal"),
        ({"num_transformer_submodules": 2}, ROWS, "causal"),
    ],
)
def test_what_is_no_soft_prompt_is_refused(
    tmp_path: Path, changes: dict[str, object], tensors: dict[str, Tensor], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        load_carried(folder_of(tmp_path / "bad", {**CONFIG, **changes}, tensors))


def test_another_models_width_hash_or_changed_content_is_refused(lm: LanguageModel, tmp_path: Path) -> None:
    wide = {EMBEDDINGS: torch.ones(4, 48)}
    weights = load_soft_prompt(folder_of(tmp_path / "wide", {**CONFIG, "token_dim": None}, wide))
    with pytest.raises(InputError, match="48 wide"), lm.adapted(weights):
        pass
    kept = Path(save_soft_prompt(tmp_path, soft(lm), lm.source).path)
    with pytest.raises(InputError, match="made for base model"):
        load_carried(kept, "0" * 64)
    data = bytearray((kept / WEIGHTS_FILE).read_bytes())
    data[-3] ^= 1
    (kept / WEIGHTS_FILE).write_bytes(bytes(data))
    with pytest.raises(InputError, match="it was changed"):
        load_carried(kept)
    (kept / WEIGHTS_FILE).write_bytes(bytes(data[:-40]))
    with pytest.raises(InputError, match="damaged"):
        load_carried(kept)
    (kept / WEIGHTS_FILE).unlink()
    with pytest.raises(InputError, match="only safetensors"):
        load_carried(kept)


@given(st.text(max_size=80) | st.recursive(st.none() | st.integers(), st.lists, max_leaves=4).map(json.dumps))
def test_any_text_as_a_configuration_is_refused_typed(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        load_carried(folder_of(tmp_path / "odd", text, ROWS))
    with pytest.raises(InputError):
        load_soft_prompt(folder_of(tmp_path / "odd", text, ROWS))


def test_where_lora_is_needed_a_soft_prompt_is_refused_by_name(lm: LanguageModel, tmp_path: Path) -> None:
    kept = Path(save_soft_prompt(tmp_path, soft(lm), lm.source).path)
    with pytest.raises(InputError, match="holds a soft prompt"):
        load_adapter(kept)
    with pytest.raises(InputError, match="holds a soft prompt"):
        attach_adapter(lm, kept)
    with pytest.raises(ValueError, match="non-finite"):
        save_soft_prompt(tmp_path, SoftPrompt({EMBEDDINGS: torch.full((1, 32), torch.inf)}, lm.sha256), "base")

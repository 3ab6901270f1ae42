"""The frozen encoder: masked padding, independence of batching, and parity with its own library."""

import pytest
import torch

from cao.machine.assets import minilm_folder
from cao.model.encoder import MAX_TOKENS, Encoder, pool

pytestmark = pytest.mark.integration

PROMPTS = [
    "Why is the sky blue?",
    "word " * 500,
    "Tom has 12 apples and eats 5 of them. How many are left?",
    "Which of these can fly: a bird, a stone, a river or a chair? " * 9,
    "x",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(minilm_folder())


def test_padding_is_zero_and_tokens_are_not(encoder: Encoder) -> None:
    states, mask = encoder.condition(PROMPTS)
    assert states.shape == (5, MAX_TOKENS, 384)
    assert states.dtype == torch.float32
    assert not states[~mask].any()
    assert bool((states[mask].norm(dim=1) > 0).all())
    assert mask.sum(1).tolist() == [min(count, MAX_TOKENS) for count in encoder.tokens(PROMPTS)]


def test_384_tokens_are_read_and_the_rest_is_cut(encoder: Encoder) -> None:
    assert MAX_TOKENS == 384
    assert encoder.tokens(["word " * 500]) == [502]
    changed_at_300 = "word " * 300 + "river " + "word " * 199
    changed_at_450 = "word " * 450 + "river " + "word " * 49
    plain, inside, beyond = encoder.embed(["word " * 500, changed_at_300, changed_at_450])
    assert (plain - inside).abs().max() > 1e-3
    assert torch.allclose(plain, beyond, atol=1e-5)


def test_results_do_not_depend_on_batching_or_order(encoder: Encoder) -> None:
    states, mask = encoder.condition(PROMPTS, batch_size=1)
    together, mask_together = encoder.condition(PROMPTS, batch_size=5)
    assert torch.equal(mask, mask_together)
    assert torch.allclose(states, together, atol=1e-5)
    embeddings = encoder.embed(PROMPTS)
    assert torch.allclose(embeddings, encoder.embed(PROMPTS[::-1], batch_size=2).flip(0), atol=1e-5)
    assert torch.allclose(embeddings, pool(states, mask), atol=1e-5)


def test_embeddings_equal_those_of_sentence_transformers(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm_folder()), device="cpu", local_files_only=True)
    model.max_seq_length = 384
    expected = torch.from_numpy(model.encode(PROMPTS, show_progress_bar=False))
    assert torch.allclose(encoder.embed(PROMPTS), expected, atol=1e-5)


def test_no_prompts_give_empty_tensors_that_can_be_trained_on(encoder: Encoder) -> None:
    states, mask = encoder.condition([])
    assert (states.shape, mask.shape) == ((0, 384, 384), (0, 384))
    assert encoder.embed([]).shape == (0, 384)
    assert encoder.tokens([]) == []
    assert not encoder.condition(["a"])[0].is_inference()  # autograd refuses inference tensors


def test_what_was_encoded_stands_in_for_the_encoder_until_other_prompts_are_held() -> None:
    encoder = Encoder(minilm_folder())
    states, mask = encoder.condition(PROMPTS)
    held = encoder.hold(PROMPTS)
    assert held.sha256 == encoder.sha256
    assert held.tokens(PROMPTS) == encoder.tokens(PROMPTS)
    assert torch.equal(held.embeddings, pool(states, mask))
    for given, kept in zip(held.condition([PROMPTS[4], PROMPTS[0]]), (states, mask), strict=True):
        assert torch.equal(given, kept[[4, 0]])
    assert encoder.hold(list(PROMPTS)) is held
    assert encoder.hold(PROMPTS[:2]) is not held
    assert encoder.hold(PROMPTS) is not held
    with pytest.raises(KeyError):
        held.condition(["another prompt"])

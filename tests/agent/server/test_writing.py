"""What of a text can be sent before it is whole: never half a character, never the beginning of a stop text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent.server.writing import Piece, Sampling, Writing
from cao.errors import NotApplicableError
from cao.model.language_model import LanguageModel


def scripted(lm: LanguageModel, tokens: list[int], how: Sampling) -> list[Piece]:
    """The pieces of a text whose tokens are known beforehand."""
    pieces: list[Piece] = []
    writing = Writing([0], how, lambda new: pieces.append(new) if isinstance(new, Piece) else None)
    for token in tokens:
        logits = torch.full((lm.model.config.vocab_size,), -50.0)
        logits[token] = 50.0
        assert writing.draw(logits) == token
        if not writing.goes_on(lm, lm.end_tokens()):
            break
    return pieces


@pytest.fixture(scope="module")
def lm(tiny_model_folder: object) -> LanguageModel:
    from cao.model.loading import load_language_model
    from tests.conftest import TINY

    return load_language_model(TINY, path=str(tiny_model_folder), dtype="float32", offline=True)


@given(
    text=st.text(st.sampled_from("ab é€😀\n"), min_size=1, max_size=12),
    stop=st.sampled_from(["ab", "b\n", "€😀", "aba"]),
)
def test_pieces_add_up_to_the_text_before_its_stop(lm: LanguageModel, text: str, stop: str) -> None:
    tokens = lm.encode(text, special=False)
    pieces = scripted(lm, tokens, Sampling(len(tokens), stop=(stop,), whole=False))
    assert "".join(piece.text for piece in pieces) == text.split(stop)[0]
    assert "\ufffd" not in "".join(piece.text for piece in pieces)
    assert [piece.ending for piece in pieces][-1] == ("stop" if stop in text else "length")
    assert all(piece.ending is None for piece in pieces[:-1])


def test_what_is_wanted_whole_comes_in_one_piece(lm: LanguageModel) -> None:
    (piece,) = scripted(lm, [*lm.encode("the bird", special=False), lm.tokenizer.eos_token_id], Sampling(50))
    assert (piece.text, piece.ending) == ("the bird", "stop")


@pytest.mark.parametrize("how", [Sampling(4, temperature=0.0), Sampling(4, temperature=1.0, top_p=0.0)])
def test_without_temperature_or_mass_the_likeliest_token_is_drawn(how: Sampling) -> None:
    assert Writing([0], how, lambda new: None).draw(torch.tensor([0.0, 2.0, 1.0])) == 1


def test_a_seed_draws_alike_and_another_one_differs() -> None:
    logits = torch.zeros(4096)

    def drawn(seed: int | None) -> list[int]:
        writing = Writing([0], Sampling(9, temperature=1.0, seed=seed), lambda new: None)
        return [writing.draw(logits) for _ in range(9)]

    assert drawn(3) == drawn(3) != drawn(4)
    assert drawn(-1) == drawn(-1)
    assert drawn(None) != drawn(None)


def test_scores_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(NotApplicableError, match="not finite"):
        Writing([0], Sampling(4), lambda new: None).draw(torch.tensor([0.0, float("nan")]))

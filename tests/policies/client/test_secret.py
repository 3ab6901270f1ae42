"""No part of a key that is long enough to tell stays in a text, and what is no part of it does."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.client.secret import MARK, PART, Secret

KEYS = ["sk-q7Rz1VbX9tLw", "sk-proj-Zb4_Tn8QmW2xJd6FvRs0Yh5LcPg9KuEa", "0b9c11d27f3e4a5580aa41c6d2e9f013"]


def bare(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text).lower()


def parts(key: str) -> set[str]:
    """Every part that must not be shown, one by one and slowly."""
    signs, length = bare(key), min(PART, len(bare(key)) // 2)
    return {signs[i : i + length] for i in range(len(signs) - length + 1)}


PIECES = st.one_of(st.text(max_size=12), st.tuples(st.integers(0, 40), st.integers(0, 40)))


@given(st.sampled_from(KEYS), st.lists(PIECES, max_size=8))
def test_no_part_stays_and_nothing_else_goes(key: str, pieces: list[str | tuple[int, int]]) -> None:
    text = "|".join(piece if isinstance(piece, str) else key[piece[0] : sum(piece)] for piece in pieces)
    left = Secret(key).redact(text)
    assert not [part for stretch in left.split(MARK) for part in parts(key) if part in bare(stretch)]
    if not any(part in bare(text) for part in parts(key)):
        assert left == text


@given(st.sampled_from(KEYS), st.integers(0, 3), st.integers(12, 40), st.text("ab: ", max_size=5))
def test_a_part_in_base64_or_as_bytes_goes_too(key: str, start: int, length: int, before: str) -> None:
    part = key[start : start + length].encode()
    assert Secret(key).redact(part.hex(" ")) == MARK
    left = Secret(key).redact(base64.b64encode(before.encode() + part).decode())
    assert MARK in left
    assert len(left.replace(MARK, "")) <= 14  # what stood before it, and the bits that it shares with its neighbours


def test_everything_around_a_part_stays_as_it_is() -> None:
    secret = Secret(KEYS[1])
    assert secret.redact("Key sk-proj-Zb4_Tn8Q… is wrong, see Ünicode.") == "Key [key]… is wrong, see Ünicode."
    assert secret.redact("It ends in KuEa.") == "It ends in KuEa."  # as providers show it
    assert secret.redact(f"{KEYS[1]}, {KEYS[1][:20]}\n{KEYS[1][20:]}") == "[key], [key]"


@pytest.mark.parametrize("key", ["EMPTY", "ollama", "lm-studio", "x"])
def test_a_word_in_place_of_a_key_is_blotted_whole_only(key: str) -> None:
    secret = Secret(key)
    assert secret.redact("A studio, an empty lama.") == "A studio, an empty lama."
    assert secret.redact(f"The key: {key}") == "The key: [key]"
    assert Secret("").redact("anything") == "anything"
    assert key not in repr(secret)


def test_megabytes_of_parts_are_blotted() -> None:
    said = Secret(KEYS[1]).redact((KEYS[1][1:] + "!") * 20_000)
    assert said == f"{MARK}!" * 20_000

"""Which prompts are used and what is reported: blanks, repeats, length, number, scripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.encoder import MAX_TOKENS, Encoder
from tools.generate_lora.prompts import usable_prompts

GREEK, CHINESE, ARABIC, EMOJI = "Ποια είναι η πρωτεύουσα;", "首都是哪里？", "ما هي العاصمة؟", "😀🎉 👩‍👩‍👧"
BROKEN = "half \ud83d a pair"


def test_good_prompts_are_kept_in_their_order_without_a_word() -> None:
    report = usable_prompts(["Zeus?", "Ares?", "Hera?"], [5, MAX_TOKENS, 5], 3)
    assert report.kept == (0, 1, 2)
    assert report.caveats == ()


def test_blank_and_repeated_prompts_are_left_out_and_counted() -> None:
    report = usable_prompts(["b", "", " \n\t", "a", "B ", "a", "\u200b\ufeff", "\u00a0\u3000"], None, 2)
    assert report.kept == (0, 3)
    assert report.caveats == (
        "4 of 8 prompts are blank and were left out",
        "2 of 8 prompts repeat another one and were left out",
    )


def test_half_a_character_pair_is_left_out_and_a_whole_one_is_not() -> None:
    report = usable_prompts([BROKEN, "a whole 😀"], None, 1)
    assert report.kept == (1,)
    assert report.caveats == ("1 of 2 prompts hold half a character pair, are no valid text and were left out",)


def test_the_length_of_used_prompts_is_reported() -> None:
    report = usable_prompts(["long", "long", "short"], [MAX_TOKENS + 1, MAX_TOKENS + 1, MAX_TOKENS], 1)
    assert report.caveats[1:] == ("1 of 2 prompts are longer than 384 tokens; the encoder did not see their end",)


@pytest.mark.parametrize(("wanted", "said"), [(1, False), (2, False), (3, True)])
def test_fewer_prompts_than_wanted_are_said_to_be_used_again(wanted: int, said: bool) -> None:
    caveats = usable_prompts(["one", "two", "two"], None, wanted).caveats[1:]
    told = "2 distinct prompts for the 3 that the generator takes; they are used again in turn"
    assert caveats == ((told,) if said else ())


@pytest.mark.parametrize("prompt", [GREEK, CHINESE, ARABIC, "नमस्ते", "한국의 수도는", "Ελληνικά"])
def test_other_scripts_are_used_and_reported(prompt: str) -> None:
    report = usable_prompts([prompt, "Ça va, naïve façade?", "x"], None, 3)
    assert report.kept == (0, 1, 2)
    assert report.caveats == ("1 of 3 prompts are mostly in another script; the encoder was trained on English",)


def test_a_foreign_word_in_an_english_prompt_is_no_other_script() -> None:
    assert usable_prompts(["What is α in the word αβ?", "ab αβ"], None, 2).caveats == ()


@pytest.mark.parametrize("prompt", [EMOJI, "12 + 3 = ?", "…"])
def test_prompts_without_letters_are_used_and_reported(prompt: str) -> None:
    report = usable_prompts([prompt, "a word"], None, 2)
    assert report.kept == (0, 1)
    assert report.caveats == ("1 of 2 prompts hold no letters; the encoder makes little of them",)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "no prompt is left to generate an adapter from"),
        (["", " "], "2 of 2 prompts are blank"),
        (["\u0301", "\x00"], "2 of 2 prompts are blank"),
        ([BROKEN, "\u200b"], "1 of 2 prompts hold half a character pair, .*; 1 of 2 prompts are blank"),
    ],
)
def test_nothing_left_is_bad_input_with_the_reason(prompts: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        usable_prompts(prompts, None, 8)


@given(st.lists(st.one_of(st.text(st.characters()), st.sampled_from(["", " ", "a", "A", BROKEN, EMOJI])), max_size=12))
def test_every_used_prompt_is_text_and_no_two_are_alike(prompts: list[str]) -> None:
    try:
        report = usable_prompts(prompts, [3] * len(prompts), 4)
    except InputError:
        assert all(not prompt.strip() or not prompt.isprintable() for prompt in prompts)
        return
    used = [prompts[i] for i in report.kept]
    assert list(report.kept) == sorted(set(report.kept))
    assert len({" ".join(prompt.lower().split()) for prompt in used}) == len(used)
    assert all(prompt.strip() and prompt.encode() for prompt in used)
    again = usable_prompts(used, [3] * len(used), 4)
    assert again.kept == tuple(range(len(used)))
    assert not any("left out" in caveat for caveat in again.caveats)


@pytest.mark.integration
def test_the_encoder_takes_whatever_is_kept() -> None:
    encoder = Encoder(minilm_folder())
    prompts = [GREEK, CHINESE, ARABIC, EMOJI, BROKEN, "\u0301", "\u200b", "word " * 500]
    valid = [prompt if prompt != BROKEN else "" for prompt in prompts]
    report = usable_prompts(prompts, encoder.tokens(valid), 8)
    assert report.kept == (0, 1, 2, 3, 7)
    assert any("1 of 5 prompts are longer than 384 tokens" in caveat for caveat in report.caveats)
    states, mask = encoder.condition([prompts[i] for i in report.kept])
    assert bool(states.isfinite().all())
    assert bool((mask.sum(1) >= 2).all())

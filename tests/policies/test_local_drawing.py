"""Drawing tokens: against a plain distribution, side by side as alone, no prompt read twice."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cao.inference.grammar import Grammar
from cao.inference.prompt_memory import PromptMemory
from cao.inference.sampling import draw, sample
from cao.model.language_model import LanguageModel
from cao.strategy import strategy_schema
from tests.cao.model.families import family_model


def plain_distribution(logits: list[float], temperature: float, top_k: int, top_p: float) -> list[float]:
    """Top-k then top-p, written out slowly."""
    weights = torch.tensor([x / temperature for x in logits]).exp().tolist()
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[: top_k or None]
    total = sum(weights[i] for i in order)
    kept: list[int] = []
    mass = 0.0
    for i in order:
        if mass >= top_p:
            break
        kept.append(i)
        mass += weights[i] / total
    norm = sum(weights[i] for i in kept)
    return [weights[i] / norm if i in kept else 0.0 for i in range(len(weights))]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 4, 1.0), (1.3, 0, 0.6), (1.0, 4, 0.8)]
)
def test_draw_follows_the_plain_distribution(temperature: float, top_k: int, top_p: float) -> None:
    logits = [0.3, 2.0, -1.0, 1.2, 0.9, -float("inf")]
    n = 20_000
    rows = torch.tensor([logits]).expand(n, -1)
    generator = torch.Generator().manual_seed(0)
    tokens = draw(rows, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
    expected = plain_distribution(logits, temperature, top_k, top_p)
    for token, probability in enumerate(expected):
        share = float((tokens == token).float().mean())
        assert share == pytest.approx(probability, abs=0.015)
        assert probability > 0 or share == 0


def test_temperature_zero_takes_the_most_likely() -> None:
    tokens = draw(
        torch.tensor([[0.0, 3.0], [1.0, 0.0]]), temperature=0, top_k=0, top_p=0.5, generator=torch.Generator()
    )
    assert tokens.tolist() == [1, 0]


@pytest.mark.parametrize(("temperature", "top_p"), [(1e-320, 1.0), (1e-40, 0.9), (1.0, 1e-320), (1.0, 0.0)])
def test_next_to_no_temperature_and_next_to_no_share_take_the_most_likely(temperature: float, top_p: float) -> None:
    rows = torch.tensor([[0.0, 3.0], [1.0, -float("inf")]])
    tokens = draw(rows, temperature=temperature, top_k=0, top_p=top_p, generator=torch.Generator())
    assert tokens.tolist() == [1, 0]


def test_continuations_side_by_side_equal_those_written_alone(tiny_lm: LanguageModel) -> None:
    """The mask must hide the rows from each other: greedy and sampled rows against one whole forward pass each."""
    tiny_lm.model.double()  # bfloat16 would round the two orders of summation apart
    prompt = "Question: Tom has 12 apples and eats 5."
    ids = tiny_lm.encode(prompt)
    texts = sample(
        tiny_lm,
        prompt,
        3,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_tokens=12,
        generator=torch.Generator().manual_seed(4),
    )
    generator = torch.Generator().manual_seed(4)
    written: list[list[int]] = [[], [], []]
    going = [0, 1, 2]
    for _ in range(12):
        if not going:
            break
        with torch.inference_mode():
            logits = torch.stack([tiny_lm.model(torch.tensor([ids + written[i]])).logits[0, -1] for i in going]).float()
        tokens = draw(logits, temperature=1.0, top_k=0, top_p=1.0, generator=generator).tolist()
        for i, token in zip(list(going), tokens, strict=True):
            if token == tiny_lm.tokenizer.eos_token_id:
                going.remove(i)
            else:
                written[i].append(token)
    assert len(set(texts)) > 1
    assert texts == [tiny_lm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in written]


def test_what_a_grammar_leaves_no_choice_about_is_read_with_the_token_before_it(tiny_lm: LanguageModel) -> None:
    """Side by side and several tokens at once, against one text at a time and a whole forward pass for each draw."""
    tiny_lm.model.double()
    grammar = Grammar(tiny_lm, strategy_schema(["TTL", "Latent"]))
    prompt, settings = "Reply with JSON:", {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    generator = torch.Generator().manual_seed(4)
    texts = sample(tiny_lm, prompt, 3, **settings, max_tokens=60, generator=generator, grammar=grammar)
    generator, ids, forwards = torch.Generator().manual_seed(4), tiny_lm.encode(prompt), 0
    written: list[list[int]] = [[], [], []]
    matchers, going = grammar.matchers(3), [0, 1, 2]
    while going:
        with torch.inference_mode():
            logits = torch.stack([tiny_lm.model(torch.tensor([ids + written[i]])).logits[0, -1] for i in going]).float()
        forwards += 1
        logits = logits.masked_fill(~grammar.allowed([matchers[i] for i in going]), float("-inf"))
        for i, token in zip(list(going), draw(logits, **settings, generator=generator).tolist(), strict=True):
            assert matchers[i].consume_token(token)
            forced = [] if matchers[i].is_stopped() else matchers[i].compute_ff_tokens()[: 59 - len(written[i])]
            assert not forced or matchers[i].consume_tokens(forced)
            written[i] += [token, *forced]
            if matchers[i].is_stopped() or len(written[i]) >= 60:
                going.remove(i)
    assert texts == [tiny_lm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in written]
    assert forwards < max(map(len, written))


def test_a_prompt_read_before_is_not_read_again_and_changes_nothing(tiny_lm: LanguageModel) -> None:
    memory, read = PromptMemory(), list[int]()
    forward = tiny_lm.trunk.forward

    def counting(**given: Any) -> Any:
        read.append(given["input_ids"].shape[1])
        return forward(**given)

    def texts(prompt: str, memory: PromptMemory, beginning: int) -> tuple[list[str], int]:
        read.clear()
        options: Any = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 6}
        generator = torch.Generator().manual_seed(1)
        found = sample(tiny_lm, prompt, 2, **options, generator=generator, memory=memory, beginning=beginning)
        return found, sum(count for count in read if count > 2)  # two texts go on together

    tiny_lm.trunk.forward = counting
    first, second = "Question: Tom has 12 apples, all of them red.", "Question: Tom has 12 pears and eats 5."
    a, b = tiny_lm.encode(first), tiny_lm.encode(second)
    common = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    alone = {prompt: texts(prompt, PromptMemory(), common)[0] for prompt in (first, second)}
    assert alone[first] != alone[second]
    for prompt, fresh in ((first, len(a)), (first, 0), (second, len(b) - common), (first, len(a) - common)):
        assert texts(prompt, memory, common) == (alone[prompt], fresh)


def test_a_model_that_carries_a_state_reads_every_prompt_anew(tiny_model_folder: Path, tmp_path: Path) -> None:
    lm = family_model("Lfm2", tmp_path, tiny_model_folder)
    memory, logits = PromptMemory(), list[torch.Tensor]()
    first, second = lm.encode("Question: Tom has 12 apples."), lm.encode("Question: Tom has 12 pears and eats 5.")
    with torch.no_grad():
        for ids in (first, second, second):
            logits.append(memory.read(lm, ids, 4)[1])
            alone = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1].float()
            torch.testing.assert_close(logits[-1], alone, atol=1e-4, rtol=1e-4)


def test_a_reading_that_fails_leaves_nothing_of_another_prompt(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tiny_lm.encode("the bird can fly"), tiny_lm.encode("apples grow in the sun")
    memory, plain = PromptMemory(), type(tiny_lm).logits

    def fails(*_: object) -> Any:
        raise MemoryError

    memory.read(tiny_lm, first, 2)
    monkeypatch.setattr(type(tiny_lm), "logits", fails)
    with pytest.raises(MemoryError):
        memory.read(tiny_lm, second, 2)
    monkeypatch.setattr(type(tiny_lm), "logits", plain)
    wanted = PromptMemory().read(tiny_lm, second, 2)[1]
    assert torch.equal(memory.read(tiny_lm, second, 2)[1], wanted)


def test_a_reading_that_breaks_off_leaves_no_half_of_a_prompt(tiny_lm: LanguageModel) -> None:
    first, second = tiny_lm.encode("the bird can fly"), tiny_lm.encode("the bird eats the bees")
    memory, forward = PromptMemory(), tiny_lm.trunk.forward

    def breaks(**given: Any) -> Any:
        forward(**given)  # the cache has grown
        raise MemoryError

    memory.read(tiny_lm, first, 2)
    tiny_lm.trunk.forward = breaks
    with pytest.raises(MemoryError):
        memory.read(tiny_lm, second, 2)
    tiny_lm.trunk.forward = forward
    for ids in (second, first):
        assert torch.equal(memory.read(tiny_lm, ids, 2)[1], PromptMemory().read(tiny_lm, ids, 2)[1])

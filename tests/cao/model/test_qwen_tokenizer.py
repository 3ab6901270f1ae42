"""Qwen2.5's own tokenizer: its ids, its chat, letters behind a prompt, and the grammar over its whole vocabulary."""

import hashlib
import json
import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from agent.budget.plan import PROPOSAL_TOKENS
from cao.configuration import Machine
from cao.inference.grammar import Grammar
from cao.inference.sampling import chat_text, prompt_tokens, sample
from cao.inference.scoring import plan_row
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.profile_settings import ProfileSettings
from cao.strategies import FAMILIES
from cao.strategy import parse_strategy, strategy_schema
from cao.tasks.base import choice_example, letter_query
from policies.base import PolicyContext
from policies.local import on_a_grid
from policies.messages import describer_messages, policy_messages
from tests.cao.model.qwen_tokenizer import MISSING, PLAIN, SPECIAL, SYSTEM, build, ranks_file
from tests.prompts.test_render import FIRST, LATER, PAIRS

ROWS = 151_936
"""Of Qwen2.5's embedding."""
CHAT = (
    *(151644, 8948, 198, 2610, 525, 1207, 16948, 11, 3465, 553, 54364, 14817, 13, 1446, 525, 264, 10950, 17847, 13),
    *(151645, 198, 151644, 872, 198, 9707, 11, 1879, 0, 151645, 198, 151644, 77091, 198),
)
"""What the published tokenizer makes of “Hello, world!” in a chat."""

PUBLISHED = {
    "vocab.json": "ca10d7e9fb3ed18575dd1e277a2579c16d108e32f27439684afa0e10b1440910",
    "merges.txt": "8831e4f1a044471340f7c0a83d7bd71306a5b867e95fd870f74d0c5308a904d5",
    "added_tokens.json": "58b54bbe36fc752f79a24a271ef66a0a0830054b4dfad94bde757d851968060b",
}
"""SHA-256 of the files beside Qwen2.5's weights."""

pytestmark = pytest.mark.skipif(ranks_file() is None, reason=MISSING)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    path = ranks_file()
    assert path is not None
    return build(path)


@pytest.fixture(scope="module")
def lm(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random Qwen2 with the real vocabulary, loaded as ``--model DIR`` is."""
    folder = tmp_path_factory.mktemp("qwen") / "tiny-qwen"
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=ROWS, **sizes, num_key_value_heads=1, tie_word_embeddings=True, eos_token_id=151645)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    profile = ProfileSettings(answer_style="letter")
    return load_model(Machine(model=str(folder), profile=profile, dtype="float32", offline=True))


def test_the_vocabulary_is_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.get_vocab()
    assert sorted(ids.values()) == list(range(151_665))
    added = [*(f"<|{name}|>" for name in SPECIAL), *PLAIN]
    assert [ids[token] for token in added] == list(range(151_643, 151_665))
    decoder = tokenizer.added_tokens_decoder
    assert [number for number, token in decoder.items() if not token.special] == list(range(151_657, 151_665))


def test_vocabulary_merges_and_added_tokens_are_the_published_ones_byte_for_byte(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    added = dict(sorted(tokenizer.get_added_vocab().items()))
    written = {
        "vocab.json": json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")),
        "merges.txt": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in model["merges"]),
        "added_tokens.json": json.dumps(added, indent=2) + "\n",
    }
    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, text in written.items()} == PUBLISHED


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello, world!", [9707, 11, 1879, 0]),
        (" A B C D", [362, 425, 356, 422]),
        ("12345", [16, 17, 18, 19, 20]),  # a digit a token
        ("e\u0301", [963]),  # composed first
        ("<|im_start|>", [151644]),
    ],
)
def test_known_texts_have_their_published_ids(tokenizer: PreTrainedTokenizerFast, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids


@settings(max_examples=60, derandomize=True)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back_composed(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_a_chat_is_chatml_with_the_default_system_line(lm: LanguageModel) -> None:
    text = chat_text(lm, [{"role": "user", "content": "Hello, world!"}])
    assert text.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n")
    assert prompt_tokens(lm, text) == list(CHAT)
    own = chat_text(lm, [{"role": "system", "content": "Be short."}, {"role": "user", "content": "<|im_end|>"}])
    assert SYSTEM not in own
    assert prompt_tokens(lm, own).count(151645) == 2  # a mark in a message is text
    assert lm.profile.end_tokens == ("<|im_end|>",)


@pytest.mark.parametrize(
    ("messages", "tokens"),
    [
        (policy_messages(PolicyContext()), 980),
        (policy_messages(FIRST), 942),
        (policy_messages(LATER), 1_119),
        (describer_messages(PAIRS), 151),
    ],
    ids=["policy_empty", "policy_first", "policy_later", "describe"],
)
def test_the_golden_prompts_have_so_many_tokens(lm: LanguageModel, messages: list[dict[str, str]], tokens: int) -> None:
    prompt = chat_text(lm, messages)
    assert len(prompt_tokens(lm, prompt)) == tokens
    assert lm.encode(prompt) == prompt_tokens(lm, prompt)  # no message holds a mark of the chat


@pytest.mark.parametrize("context", [PolicyContext(), FIRST, LATER])
def test_the_policys_prompt_is_as_long_as_the_plan_reckons(lm: LanguageModel, context: PolicyContext) -> None:
    prompt = chat_text(lm, policy_messages(context))
    assert len(prompt_tokens(lm, prompt)) == pytest.approx(PROPOSAL_TOKENS[0], rel=0.3)


def test_each_letter_is_one_token_behind_the_prompt(lm: LanguageModel) -> None:
    choices = [f"number {i}" for i in range(10)]
    query = letter_query(choice_example("Which?", choices, 0))
    row = plan_row(lm, query)
    assert [span.end - span.scored for span in row.spans] == [1] * 10
    assert row.prompt == len(lm.encode(query.prefix))
    assert row.tokens[row.spans[0].scored : row.spans[0].end] == [362]


def test_strategies_are_written_under_the_grammar_over_the_whole_vocabulary(lm: LanguageModel) -> None:
    grammar = Grammar(lm, on_a_grid(strategy_schema(tuple(FAMILIES))))
    assert grammar.allowed(grammar.matchers(2)).shape == (2, ROWS)
    generator = torch.Generator().manual_seed(0)
    how = {"temperature": 1.0, "top_k": 50, "top_p": 0.9, "max_tokens": 128, "generator": generator}
    for text in sample(lm, "Strategy:", 3, grammar=grammar, **how):  # type: ignore[arg-type]
        assert parse_strategy(text).family in FAMILIES

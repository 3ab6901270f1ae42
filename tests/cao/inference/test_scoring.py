"""The scoring engine against plain scoring: one whole text, one forward pass, no mask, no cache."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cao.errors import InputError, NotApplicableError, UnavailableError
from cao.inference import scoring
from cao.inference.batching import batches
from cao.inference.hidden_cache import HiddenCache, Reader, hidden_states
from cao.inference.scoring import (
    QueryScore,
    plan_row,
    score_queries,
    token_logprobs,
)
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.types import Branch, LatentSettings, Query
from tools.apply_strategy.latent import moving, optimise_delta, prompt_deltas

TEXT = st.text(st.sampled_from("ab Ze.\n?7é🎉→Answer: the bird"), max_size=25)
QUERY = st.builds(
    lambda prefix, pairs: Query(
        prefix=prefix, branches=tuple(Branch(lead=lead, scored=scored) for lead, scored in pairs)
    ),
    TEXT,
    st.lists(st.tuples(st.one_of(st.just(""), TEXT), TEXT.filter(bool)), min_size=1, max_size=4),
)
FIXTURE = settings(max_examples=40, derandomize=True)


@pytest.fixture
def exact_lm(tiny_lm: LanguageModel) -> LanguageModel:
    tiny_lm.model.float()
    return tiny_lm


def question(prefix: str, *scored: str) -> Query:
    return Query(prefix=prefix, branches=tuple(Branch(scored=text) for text in scored))


def plain_score(lm: LanguageModel, prefix: str, scored: str, delta: Tensor | None = None) -> tuple[float, int]:
    """Read the whole text at once; the scored tokens are those that the context alone does not begin with."""
    whole, context = lm.encode(prefix + scored), lm.encode(prefix)
    known = 0
    while known < len(context) and context[known] == whole[known]:
        known += 1
    if known == 0:
        whole, known = [lm.tokenizer.eos_token_id, *whole], 1
    with torch.no_grad():
        hidden = lm.model.model(torch.tensor([whole])).last_hidden_state[0]
        logits = lm.model.lm_head(hidden if delta is None else hidden + delta).float()
    logprobs = logits.log_softmax(-1)
    return float(sum(logprobs[t - 1, whole[t]] for t in range(known, len(whole)))), len(whole) - known


@FIXTURE
@given(queries=st.lists(QUERY, min_size=1, max_size=5))
def test_every_branch_scores_as_if_it_stood_alone(exact_lm: LanguageModel, queries: list[Query]) -> None:
    for query, result in zip(queries, score_queries(exact_lm, queries, token_budget=128), strict=True):
        for branch, score in zip(query.branches, result.branches, strict=True):
            prefix = query.prefix + branch.lead
            starts_alone = any(plan_known(exact_lm, query.prefix + b.lead, b.scored) == 0 for b in query.branches)
            if starts_alone and plan_known(exact_lm, prefix, branch.scored) > 0:
                continue  # the start token then stands before every branch of the question
            expected, tokens = plain_score(exact_lm, prefix, branch.scored)
            assert score.logprob == pytest.approx(expected, abs=1e-4)
            assert score.tokens == tokens
            assert score.chars == max(1, len(branch.scored.strip()))
        assert result.cut == 0


def plan_known(lm: LanguageModel, context: str, scored: str) -> int:
    return scoring.common_prefix(lm.encode(context), lm.encode(context + scored))


@FIXTURE
@given(query=QUERY)
def test_a_row_spells_each_whole_text(exact_lm: LanguageModel, query: Query) -> None:
    row = plan_row(exact_lm, query)
    for branch, span in zip(query.branches, row.spans, strict=True):
        tokens = row.tokens[: row.prompt] + row.tokens[span.start : span.end]
        spelt = exact_lm.tokenizer.decode(tokens, skip_special_tokens=True)
        assert spelt == query.prefix + branch.lead + branch.scored
        assert span.start <= span.scored < span.end
    assert row.spans[-1].end == len(row.tokens)


def test_the_leading_space_belongs_to_the_answer(exact_lm: LanguageModel) -> None:
    row = plan_row(exact_lm, question("Question: Which?\nAnswer:", " the bird", " the"))
    assert exact_lm.tokenizer.decode(row.tokens[: row.prompt]) == "Question: Which?\nAnswer:"
    spans = [exact_lm.tokenizer.decode(row.tokens[span.scored : span.end]) for span in row.spans]
    assert spans == [" the bird", " the"]


def test_only_what_stands_behind_the_lead_is_scored(exact_lm: LanguageModel) -> None:
    query = Query(
        prefix="Tom", branches=(Branch(lead=" has", scored=" apples"), Branch(lead=" eats", scored=" apples"))
    )
    row = plan_row(exact_lm, query)
    assert [exact_lm.tokenizer.decode(row.tokens[s.scored : s.end]) for s in row.spans] == [
        " apples",
        " apples",
    ]


def test_a_batch_changes_nothing(exact_lm: LanguageModel) -> None:
    queries = [question("Why do plants " + "need the sun " * n, " to grow", " to sleep", " A") for n in range(9)]
    alone = [score_queries(exact_lm, [query])[0] for query in queries]
    for one, other in zip(alone, score_queries(exact_lm, queries), strict=True):
        for a, b in zip(one.branches, other.branches, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_a_prompt_that_is_too_long_keeps_its_end(exact_lm: LanguageModel) -> None:
    exact_lm.model.config.max_position_embeddings = 40
    prompt = "Which of these animals can fly? " * 20 + "Answer:"
    result, short = score_queries(exact_lm, [question(prompt, " the bird"), question("Answer:", " 7")])
    assert result.cut > 0
    assert short.cut == 0
    kept = exact_lm.encode(prompt)[result.cut :]
    assert len(kept) + result.branches[0].tokens == 40
    expected, _ = plain_score(exact_lm, exact_lm.tokenizer.decode(kept), " the bird")
    assert result.branches[0].logprob == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_asked_is_refused(exact_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="nothing to score"):
        score_queries(exact_lm, [question("Answer:", " yes", "")])
    with pytest.raises(InputError, match="nothing to score"):
        score_queries(exact_lm, [Query(prefix="Answer:", branches=())])
    exact_lm.model.config.max_position_embeddings = 8
    with pytest.raises(InputError, match=r"^an answer is longer than the model's context"):
        score_queries(exact_lm, [question("Answer:", " apples" * 20)])
    exact_lm.virtual = [exact_lm.tokenizer.vocab_size] * 8
    with pytest.raises(InputError, match=r"^an answer is longer than the model's context"):
        plan_row(exact_lm, question("Answer:", " apples" * 20))
    with pytest.raises(NotApplicableError, match="behind 8 virtual tokens an answer is longer"):
        plan_row(exact_lm, question("Answer:", " A"))
    exact_lm.virtual = []
    assert plan_row(exact_lm, question("Answer:", " A")).tokens


def test_scores_that_are_not_finite_are_an_error(exact_lm: LanguageModel) -> None:
    exact_lm.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NotApplicableError, match="not finite"):
        score_queries(exact_lm, [question("Answer:", " yes")])


def test_blocks_of_positions_change_nothing(exact_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, targets = torch.randn(11, 32, generator=generator), torch.arange(11)
    whole = token_logprobs(exact_lm, hidden, targets)
    monkeypatch.setattr(scoring, "CHUNK_BYTES", 4 * 400 * 3)
    torch.testing.assert_close(token_logprobs(exact_lm, hidden, targets), whole)
    assert whole.dtype == torch.float32


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_halves_the_batch_and_is_told_once(
    exact_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    queries = [question("Why do plants " + "need the sun " * n, " to grow", " to sleep") for n in range(7)]
    expected = score_queries(exact_lm, queries)
    score_batch, sizes, told = scoring.score_batch, [], []

    def scarce(lm: LanguageModel, rows: list[Row], latent: None, read: Reader) -> list[list[float]]:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise error
        return score_batch(lm, rows, latent, read)

    monkeypatch.setattr(scoring, "score_batch", scarce)
    found = score_queries(exact_lm, queries, progress=lambda label, done, total: told.append(label))
    for one, other in zip(expected, found, strict=True):
        assert [b.logprob for b in one.branches] == pytest.approx([b.logprob for b in other.branches], abs=1e-4)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert sum("out of memory" in label for label in told) == 1


def test_other_errors_and_a_question_too_large_for_memory_are_not_hidden(
    exact_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(scoring, "score_batch", fail)

    failing(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        score_queries(exact_lm, [question("Why", " so")] * 2)
    failing(MemoryError())
    with pytest.raises(UnavailableError, match="one question of"):
        score_queries(exact_lm, [question("Why", " so")] * 2)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = list(batches(lengths, budget))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= budget for g in groups)


def test_latent_scores_with_a_delta_fitted_to_the_prompt_alone(exact_lm: LanguageModel) -> None:
    settings = LatentSettings(slot_steps=5, slot_lr=0.1)
    prompts = [
        "Question: Why do plants need the sun?\nAnswer:",
        "Tom has 12 apples and eats 5. How many?\nAnswer:",
    ]
    results = score_queries(exact_lm, [question(p, " to grow", " 7") for p in prompts], move=moving(settings))
    for prompt, result in zip(prompts, results, strict=True):
        ids = torch.tensor(exact_lm.encode(prompt))
        hidden = exact_lm.model.model(ids[None]).last_hidden_state[:, :-1]
        mask = torch.ones(1, len(ids) - 1, dtype=torch.bool)
        delta = optimise_delta(hidden, ids[None, 1:], mask, exact_lm.model.lm_head.weight, 5, 0.1)[0]
        assert delta.abs().max() > 0.1
        for scored, branch in zip((" to grow", " 7"), result.branches, strict=True):
            expected, _ = plain_score(exact_lm, prompt, scored, delta)
            assert branch.logprob == pytest.approx(expected, abs=1e-3)


def test_latent_with_rate_near_zero_is_plain_scoring_and_a_one_token_prompt_has_no_delta(
    exact_lm: LanguageModel,
) -> None:
    queries = [question("A", " to grow", " 7"), question("", "A", "B"), question("Why do plants", " grow")]
    plain = score_queries(exact_lm, queries)
    still = score_queries(exact_lm, queries, move=moving(LatentSettings(slot_steps=1, slot_lr=1e-9)))
    moved = score_queries(exact_lm, queries, move=moving(LatentSettings(slot_steps=5, slot_lr=0.5)))
    for i, (a, b, c) in enumerate(zip(plain, still, moved, strict=True)):
        assert [x.logprob for x in a.branches] == pytest.approx([x.logprob for x in b.branches], abs=1e-4)
        unchanged = [x.logprob for x in a.branches] == pytest.approx([x.logprob for x in c.branches], abs=1e-4)
        assert unchanged == (i < 2)


def test_deltas_of_a_batch_see_neither_branches_nor_padding(exact_lm: LanguageModel) -> None:
    settings = LatentSettings(slot_steps=3, slot_lr=0.1)
    prompts = ["Question: Which of these can fly?\nAnswer:", "Tom eats 5."]
    bare = [plan_row(exact_lm, question(p, " x")) for p in prompts]
    full = [plan_row(exact_lm, question(p, " the bird in the sun", " 12 - 5 = 7", " x")) for p in prompts]
    deltas = [prompt_deltas(exact_lm, rows, hidden_states(exact_lm, rows), settings) for rows in (bare, full)]
    alone = [prompt_deltas(exact_lm, [row], hidden_states(exact_lm, [row]), settings)[0] for row in bare]
    torch.testing.assert_close(deltas[0], deltas[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(deltas[0], torch.stack(alone), atol=1e-4, rtol=0)


def test_a_llama_is_scored_like_a_qwen(exact_lm: LanguageModel) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=400, hidden_size=36, intermediate_size=48, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, head_dim=4, max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    exact_lm.model = LlamaForCausalLM(config).eval().requires_grad_(False)
    query = question("Question: Why do plants need the sun?\nAnswer:", " to grow", " to sleep", " 7")
    for branch, score in zip(query.branches, score_queries(exact_lm, [query])[0].branches, strict=True):
        assert score.logprob == pytest.approx(plain_score(exact_lm, query.prefix, branch.scored)[0], abs=1e-4)


def test_kept_hidden_states_save_the_forward_and_change_nothing(
    exact_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [question(f"question {i} of several:", " yes", " no, never") for i in range(9)]
    settings, states = LatentSettings(slot_steps=3, slot_lr=0.1), HiddenCache()

    def scored(read: Reader, latent: LatentSettings | None) -> list[QueryScore]:
        return score_queries(exact_lm, queries, move=moving(latent), token_budget=100, read=read)

    plain = scored(states.reader("one"), None)
    other = scored(states.reader("two"), settings)
    assert states.reused == 0
    monkeypatch.setattr("cao.inference.hidden_cache.packed_states", None)  # no second forward
    assert scored(states.reader("one"), settings) == other != plain
    assert scored(states.reader("one"), None) == plain
    assert states.reused == 2 * len(queries)


def test_kept_hidden_states_stay_within_their_bound(exact_lm: LanguageModel) -> None:
    queries = [question(f"question {i}:", " yes", " no") for i in range(6)]
    whole = HiddenCache()
    score_queries(exact_lm, queries, token_budget=1, read=whole.reader(None))
    few = HiddenCache(most_bytes=whole.nbytes // 2)
    for _ in range(2):
        score_queries(exact_lm, queries, token_budget=1, read=few.reader(None))
        assert 0 < few.nbytes <= whole.nbytes // 2
    none = HiddenCache(0)
    for _ in range(2):
        score_queries(exact_lm, queries, read=none.reader(None))
    assert none.reused == none.nbytes == 0

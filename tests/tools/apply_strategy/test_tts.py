"""TTS: batches, combining by hand, and routing against slow plain versions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cao.errors import NotApplicableError
from tools.apply_strategy.tts import COMBINING, ROUTING, VOTE_SHARE, centroids, combine, prompt_batches, route

LOG = math.log


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_batches_hold_each_prompt_once_and_are_even(n: int, m: int, seed: int) -> None:
    prompts = [f"p{i}" for i in range(n)]
    if n < m:
        with pytest.raises(NotApplicableError, match="lower num_prompt_batches"):
            prompt_batches(prompts, m, seed)
        return
    batches = prompt_batches(prompts, m, seed)
    assert len(batches) == m
    assert sorted(p for batch in batches for p in batch) == sorted(prompts)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert batches == prompt_batches(prompts, m, seed)


def test_batches_depend_on_the_seed() -> None:
    prompts = [f"p{i}" for i in range(20)]
    assert prompt_batches(prompts, 4, 0) != prompt_batches(prompts, 4, 1)


def test_the_most_confident_member_answers() -> None:
    # softmax peaks: .6, .9, .5; shifting a member's scores changes nothing
    members = [[LOG(0.6), LOG(0.4)], [LOG(0.1) - 7, LOG(0.9) - 7], [LOG(0.5), LOG(0.5)]]
    assert combine(members, "max_confidence") == members[1]


def test_the_majority_wins_over_confidence() -> None:
    # votes 2 to 1; mean probabilities .34 and .66: the larger one goes to the winner
    members = [[LOG(0.51), LOG(0.49)], [LOG(0.51), LOG(0.49)], [LOG(0.01), LOG(0.99)]]
    combined = combine(members, "majority_vote")
    means = [1.97 / 3, 1.03 / 3]
    mixed = [(1 - VOTE_SHARE) * mean + VOTE_SHARE * share for mean, share in zip(means, (2 / 3, 1 / 3), strict=True)]
    assert combined == pytest.approx([LOG(value) for value in mixed], abs=1e-12)
    assert VOTE_SHARE == 1e-6


def test_a_tie_of_votes_is_broken_by_probability() -> None:
    members = [[LOG(0.6), LOG(0.3), LOG(0.1)], [LOG(0.1), LOG(0.8), LOG(0.1)]]
    assert combine(members, "majority_vote") == pytest.approx([LOG(0.35), LOG(0.55), LOG(0.1)], abs=1e-5)


def test_a_tie_of_probability_is_broken_by_votes() -> None:
    # the means are .5 and .5, the second choice has two votes of three
    members = [[LOG(0.75), LOG(0.25)], [LOG(0.375), LOG(0.625)], [LOG(0.375), LOG(0.625)]]
    first, second = combine(members, "majority_vote")
    assert first < second
    assert [first, second] == pytest.approx([LOG(0.5), LOG(0.5)], abs=1e-5)


def test_log_probabilities_add_up_after_normalising() -> None:
    members = [[LOG(0.6) + 5, LOG(0.4) + 5], [LOG(0.2), LOG(0.8)]]
    assert combine(members, "sum_logprobs") == pytest.approx([LOG(0.12) / 2, LOG(0.32) / 2])


TABLES = arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-50, 50))


def softmax(row: list[float]) -> list[float]:
    total = math.fsum(math.exp(value - max(row)) for value in row)
    return [math.exp(value - max(row)) / total for value in row]


def plain_votes(table: list[list[float]]) -> list[float]:
    """Return votes plus a share below one vote of the summed probabilities: the rule as the paper states it."""
    firsts = [row.index(max(row)) for row in table]
    sums = [math.fsum(softmax(row)[choice] for row in table) for choice in range(len(table[0]))]
    return [firsts.count(choice) + total / (len(table) + 1) for choice, total in enumerate(sums)]


def plain_sums(table: list[list[float]]) -> list[float]:
    normals = [max(row) + LOG(math.fsum(math.exp(value - max(row)) for value in row)) for row in table]
    rows = list(zip(table, normals, strict=True))
    return [math.fsum(row[choice] - normal for row, normal in rows) for choice in range(len(table[0]))]


@given(TABLES, st.sampled_from(["majority_vote", "sum_logprobs"]))
def test_the_answer_is_that_of_the_plain_rule(table, method: str) -> None:
    plain = {"majority_vote": plain_votes, "sum_logprobs": plain_sums}[method](table.tolist())
    combined = combine(table.tolist(), method)
    assert plain[combined.index(max(combined))] == pytest.approx(max(plain), abs=1e-9)


def test_a_tie_of_votes_goes_to_the_higher_sum_where_means_are_equal() -> None:
    """One vote each for the first and the second; the mean of the second equals the third's, which has no vote."""
    combined = combine([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "majority_vote")
    assert combined.index(max(combined)) == 1
    assert combined[0] > combined[2]


@given(TABLES)
def test_the_vote_orders_all_choices_and_keeps_the_mean_probabilities(table) -> None:
    rows = table.tolist()
    combined, plain = combine(rows, "majority_vote"), plain_votes(rows)
    for better in range(len(plain)):
        for worse in range(len(plain)):
            if plain[better] > plain[worse] + 1e-9:
                assert combined[better] >= combined[worse]
    means = [math.fsum(softmax(row)[choice] for row in rows) / len(rows) for choice in range(len(plain))]
    assert sorted(math.exp(value) for value in combined) == pytest.approx(sorted(means), abs=3e-6)
    assert math.fsum(math.exp(value) for value in combined) == pytest.approx(1)
    assert all(math.isfinite(value) for value in combined)


@given(TABLES, st.integers(1, 6), st.sampled_from(COMBINING))
def test_members_that_agree_have_the_loss_of_one_alone(table, m: int, method: str) -> None:
    alone = table[0].tolist()
    single, together = softmax(alone), softmax(combine([alone] * m, method))
    assert together == pytest.approx(single, abs=3e-6)


@given(arrays(float, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-50, 50)))
def test_no_vote_is_outweighed_by_probability(table) -> None:
    combined = combine(table.tolist(), "majority_vote")
    votes = [0] * table.shape[1]
    for row in table.tolist():
        votes[row.index(max(row))] += 1
    assert votes[combined.index(max(combined))] == max(votes)


def test_one_choice_alone_is_certain() -> None:
    assert combine([[-3.0], [-4.0]], "majority_vote") == pytest.approx([0.0])


def clouds() -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    questions = torch.nn.functional.normalize(torch.randn(40, 6, generator=generator), dim=-1)
    batches = [torch.nn.functional.normalize(torch.randn(n, 6, generator=generator), dim=-1) for n in (3, 1, 5, 2)]
    return questions, batches


def test_routing_to_the_nearest_mean() -> None:
    questions, batches = clouds()
    slow = [min(range(4), key=lambda b: math.dist(q.tolist(), batches[b].mean(0).tolist())) for q in questions]
    places = centroids(batches, "avg_prompt_embed")
    assert places.shape == (4, 6)
    assert route(questions, places) == slow
    assert len(set(slow)) == 4


def test_routing_to_the_smallest_mean_distance() -> None:
    questions, batches = clouds()

    def mean_distance(question: torch.Tensor, batch: torch.Tensor) -> float:
        return sum(math.dist(question.tolist(), prompt.tolist()) for prompt in batch) / len(batch)

    slow = [min(range(4), key=lambda b: mean_distance(q, batches[b])) for q in questions]
    places = centroids(batches, "avg_sim_score")
    assert places.shape == (4, 5, 6)
    assert route(questions, places) == slow
    assert slow != route(questions, centroids(batches, "avg_prompt_embed"))


def test_a_mean_at_the_origin_is_a_place_too() -> None:
    assert route(torch.tensor([[0.1, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == [1]


def test_no_question_no_route() -> None:
    _, batches = clouds()
    for method in ROUTING:
        assert route(torch.zeros(0, 6), centroids(batches, method)) == []


def test_routing_and_combining_are_not_confused() -> None:
    with pytest.raises(ValueError, match="does not combine"):
        combine([[0.0, 1.0]], "avg_sim_score")
    with pytest.raises(ValueError, match="does not route"):
        centroids([torch.zeros(1, 2)], "majority_vote")

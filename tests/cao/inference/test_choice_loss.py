"""The loss of choosing against one plain forward for each branch, and against arithmetic by hand."""

import math

import pytest
import torch

from cao.inference.answer_loss import answer_loss, answer_rows, by_parts
from cao.inference.choice_loss import choice_loss, choice_rows, chosen_loss
from cao.inference.scoring import score_queries
from cao.model.language_model import LanguageModel
from cao.tasks.base import choice_example
from tests.tools.tiny_training import TASKS


def test_both_losses_are_those_of_the_scores(tiny_lm: LanguageModel) -> None:
    tiny_lm.model.float()
    task = TASKS["animals"]
    examples = task.load()[:5]
    rows = choice_rows(tiny_lm, task, examples, 200)
    scored = score_queries(tiny_lm, [task.query(example, "text") for example in examples])
    golds = [query.branches[example.answer] for example, query in zip(examples, scored, strict=True)]
    nll, tokens = -sum(gold.logprob for gold in golds), sum(gold.tokens for gold in golds)
    chosen = 0.0
    for length in (lambda branch: 1, lambda branch: branch.chars):
        scores = torch.tensor([[branch.logprob / length(branch) for branch in query.branches] for query in scored])
        about = scores - scores.mean(1, keepdim=True)
        shares = (1.5 * scores / about.square().mean().sqrt()).log_softmax(1)
        chosen -= 0.5 * sum(float(shares[i, example.answer]) for i, example in enumerate(examples)) / len(examples)
    found = choice_loss(tiny_lm, rows, gradient=False)
    assert float(found[0]) == pytest.approx(nll / tokens, rel=1e-5)
    assert float(found[1]) == pytest.approx(chosen, rel=1e-5)


def test_scale_buys_nothing() -> None:
    scores = [torch.tensor([1.0, 2.0, 0.5]), torch.tensor([-3.0, 0.0])]
    plain = float(chosen_loss(scores, [1, 0]))
    assert float(chosen_loss([40 * each + 7 for each in scores], [1, 0])) == pytest.approx(plain, rel=1e-5)
    assert float(chosen_loss([torch.zeros(4)], [2])) == pytest.approx(math.log(4))


def test_gradients_flow_into_an_adapter_only_where_asked(tiny_lm: LanguageModel) -> None:
    rows = choice_rows(tiny_lm, TASKS["animals"], TASKS["animals"].load()[:3], 200)
    with tiny_lm.adapted(tiny_lm.fresh_lora(0), trainable=True) as live:
        sum(choice_loss(tiny_lm, rows, gradient=True)).backward()  # type: ignore[union-attr]
        assert any(bool(p.grad.abs().sum() > 0) for p in live.values() if p.grad is not None)
        assert not choice_loss(tiny_lm, rows, gradient=False)[1].requires_grad


def test_a_long_prompt_loses_its_beginning_and_too_long_choices_their_question(tiny_lm: LanguageModel) -> None:
    task = TASKS["animals"]
    long = choice_example("word " * 80 + "which?", ("a", "b"), 1)
    huge = choice_example("which?", ("so " * 200, "b"), 0)
    alone = choice_example("which?", ("only",), 0)
    whole = choice_rows(tiny_lm, task, [long], 10_000)[0].row
    (cut,) = choice_rows(tiny_lm, task, [long, huge, alone], 60)
    assert len(cut.row.tokens) == 60
    assert cut.row.tokens == whole.tokens[-60:]
    assert [s.end - s.scored for s in cut.row.spans] == [s.end - s.scored for s in whole.spans]
    assert (cut.gold, cut.chars) == (1, (1, 1))


@pytest.mark.parametrize("choices", [True, False])
def test_a_batch_too_large_for_one_graph_has_the_same_gradient_part_by_part(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, choices: bool
) -> None:
    tiny_lm.model.float()
    task = TASKS["animals"]
    examples = [*task.load()[:4], choice_example("word " * 30 + "which?", ("a", "b", "c"), 2), *task.load()[4:6]]
    read: list[int] = []
    tiny_lm.model.get_input_embeddings().register_forward_pre_hook(lambda _, given: read.append(len(given[0])))

    def loss() -> torch.Tensor:
        if choices:
            return torch.stack(choice_loss(tiny_lm, choice_rows(tiny_lm, task, examples, 200), gradient=True)).sum()
        return answer_loss(tiny_lm, answer_rows(tiny_lm, task, examples, 200), gradient=True)

    def gradient() -> torch.Tensor:
        with tiny_lm.adapted(tiny_lm.fresh_lora(0), trainable=True) as live:
            loss().backward()  # type: ignore[no-untyped-call]
            return torch.cat([p.grad.flatten() for p in live.values() if p.grad is not None])

    whole, forwards = gradient(), len(read)
    monkeypatch.setattr("cao.inference.answer_loss.part_tokens", lambda width: 40)
    several = gradient()
    assert len(read) >= 3 * forwards  # two parts or more, each there and back
    assert several == pytest.approx(whole, rel=1e-4, abs=1e-7)
    with torch.no_grad():
        assert len(by_parts(lambda lm, rows: len(rows), tiny_lm, answer_rows(tiny_lm, task, examples, 200))) == 1

"""The loss of choosing against one plain forward for each branch, and against arithmetic by hand."""

import pytest
import torch

from cao.inference.choice_loss import choice_loss, choice_rows
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
    nll, tokens, chosen = 0.0, 0, 0.0
    for example, query in zip(examples, scored, strict=True):
        sums = torch.tensor([branch.logprob for branch in query.branches])
        chars = torch.tensor([float(branch.chars) for branch in query.branches])
        gold = query.branches[example.answer]
        nll, tokens = nll - gold.logprob, tokens + gold.tokens
        for scores in (sums, sums / chars * chars.mean()):
            chosen -= 0.5 * float(scores.log_softmax(0)[example.answer]) / len(examples)
    found = choice_loss(tiny_lm, rows, gradient=False)
    assert float(found[0]) == pytest.approx(nll / tokens, rel=1e-5)
    assert float(found[1]) == pytest.approx(chosen, rel=1e-5)


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

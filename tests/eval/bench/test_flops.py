"""What a piece of work needs at least, by hand."""

import pytest
import torch
from torch import nn

from cao.inference.scoring import plan_row
from cao.machine.linear import FastLinear
from cao.model.language_model import LanguageModel
from cao.types import Branch, Query
from eval.bench import flops
from eval.bench.cost import count


def test_only_weights_of_products_count() -> None:
    module = nn.Sequential(nn.Embedding(100, 4), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2, bias=False))
    assert flops.linear_parameters(module) == 4 * 3 + 3 * 2


def test_a_question_is_counted_by_hand(tiny_lm: LanguageModel) -> None:
    """Prompt of P tokens, branches of b tokens: P(P+1)/2 + Σ (bP + b(b+1)/2) pairs, the prompt's end shared."""
    query = Query(prefix="Question: Why?\nAnswer:", branches=(Branch(scored=" the bird"), Branch(scored=" to sleep")))
    row = plan_row(tiny_lm, query)
    prompt, lengths = row.prompt, [span.end - span.start for span in row.spans]
    pairs = prompt * (prompt + 1) // 2 + sum(b * prompt + b * (b + 1) // 2 for b in lengths)
    assert flops.attention_pairs(row) == pairs
    assert [span.scored for span in row.spans] == [span.start for span in row.spans]
    positions = sum(lengths) - 1  # the first tokens of both answers are predicted at one place
    assert flops.head_positions(row) == positions
    attention = 2 * 2 * 32 * 32 + 2 * 2 * 32 * 16  # q and o, k and v (2 of 4 heads) of two layers
    trunk = attention + 2 * 3 * 32 * 64
    vocabulary = 32 * tiny_lm.head.weight.shape[0]
    wanted = 2 * trunk * len(row.tokens) + 2 * vocabulary * positions + pairs * 2 * (2 * 2 * 32)
    assert flops.scoring_flops(tiny_lm, [row]) == wanted
    assert flops.scoring_flops(tiny_lm, [row, row]) == 2 * wanted


def test_the_rate_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "SHAPES", ((8, 8, 8),))
    assert flops.matmul_rate(torch.bfloat16, least_s=0.0) > 0


@pytest.mark.parametrize("trained", [False, True])
def test_products_of_the_faster_library_are_counted(trained: bool) -> None:
    """15 rows of 32 by 64; the gradient towards the input is a product of the same size."""
    layer = FastLinear(32, 64, bias=False).requires_grad_(False)
    x = torch.ones(3, 5, 32, requires_grad=trained)
    body = (lambda: layer(x).sum().backward()) if trained else (lambda: layer(x))
    assert count(body)[0] == 2 * 15 * 32 * 64 * (2 if trained else 1)

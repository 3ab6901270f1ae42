"""What a piece of work needs at least, and what the machine can do: floating-point operations of matrix products.

A product of (m, k) and (k, n) takes 2·m·k·n. Padding, copies of a prompt and everything that is no matrix product
(norms, softmax, rotation) are not counted: they are what an engine may do without or hide.
"""

import math
import statistics
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cao.machine.linear import available, linear
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row, Shared
from eval.bench.measure import now

SHAPES = ((2048, 576, 1536), (2048, 2048, 2048))
"""(m, k, n) that the machine's rate is measured on: a layer of the small model, and a square."""
RATE_SECONDS = 0.2


def linear_parameters(module: nn.Module) -> int:
    """Return how many weights of a module take part in matrix products (embeddings and norms do not)."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def counting() -> FlopCounterMode:
    """Return torch's counter, which is told of the one product that it does not know: linear layers' in float32."""
    known = {torch.ops.mkldnn._linear_pointwise: _linear_flops} if available() else {}
    return FlopCounterMode(display=False, custom_mapping=known)


def _linear_flops(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations of x·Wᵀ, from the shapes (…, i) and (o, i)."""
    return 2 * math.prod(x) * weight[0]


def attention_pairs(row: Row) -> int:
    """Return how many (query, key) pairs a question needs: each token with the prompt before it and its own branch."""
    prompt = row.prompt
    pairs = prompt * (prompt + 1) // 2
    for span in row.spans:
        length = span.end - span.start
        pairs += length * prompt + length * (length + 1) // 2
    return pairs


def head_positions(row: Row) -> int:
    """Return at how many positions a question needs the vocabulary; branches share the prompt's last one."""
    return len(
        {t - 1 if t > span.start else row.prompt - 1 for span in row.spans for t in range(span.scored, span.end)}
    )


def scoring_flops(lm: LanguageModel, rows: Sequence[Row]) -> float:
    """Return the operations that scoring some questions needs.

    Args:
        lm: the model, undressed.
        rows: the questions.
    """
    config = lm.model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pair = 4 * config.num_attention_heads * head * config.num_hidden_layers  # query times key, weight times value
    trunk, vocabulary = linear_parameters(lm.trunk), lm.head.weight.numel()
    tokens = sum(len(Shared.of([row]).tokens) for row in rows)  # what branches share is needed once
    positions = sum(head_positions(row) for row in rows)
    return float(2 * trunk * tokens + 2 * vocabulary * positions + pair * sum(attention_pairs(row) for row in rows))


def matmul_rate(dtype: torch.dtype, device: str = "cpu", least_s: float = RATE_SECONDS) -> float:
    """Return the machine's rate of matrix products in operations a second: the better shape's and library's median.

    Weights lie as a layer's do: the other way round torch has bfloat16 products that are a hundred times slower.

    Args:
        dtype: of both factors.
        device: where.
        least_s: seconds that each shape is measured for.
    """
    best = 0.0
    for m, k, n in SHAPES:
        a, weight = torch.ones(m, k, dtype=dtype, device=device), torch.ones(n, k, dtype=dtype, device=device)
        for multiply in (functional.linear, linear):
            multiply(a, weight)
            took: list[float] = []
            while len(took) < 3 or sum(took) < least_s:
                started = now(device)
                multiply(a, weight)
                took.append(now(device) - started)
            best = max(best, 2 * m * k * n / statistics.median(took))
    return best

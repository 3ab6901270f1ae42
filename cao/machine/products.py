"""Timing products of matrices in both number formats, for what a processor does in each."""

import time

import torch

from cao.machine.linear import linear
from cao.types import Record

ROUNDS = 5
"""Timed rounds, at least two of them."""
SHAPE = (64, 576, 1536)
"""(rows, inputs, outputs) of the products: few rows of a small model's layer, since slow ones take long enough."""
BLOCK_SECONDS = 0.004
"""A round repeats each product for this long: a single fast one is too short to time."""


class Timings(Record):
    """Products as they were timed.

    Attributes:
        work: operations of one product.
        float32: seconds of one product, a number a round.
        bfloat16: the same.
        share: of the processors' time that went to the products.
    """

    work: float
    float32: tuple[float, ...]
    bfloat16: tuple[float, ...]
    share: float


def time_products(budget_s: float) -> Timings:
    """Time products in both dtypes by turns, so that other load hits both.

    Args:
        budget_s: no further round is begun after so many seconds, but for the first two.
    """
    m, k, n = SHAPE
    pairs = {}
    for dtype in (torch.float32, torch.bfloat16):
        pairs[dtype] = torch.ones(m, k, dtype=dtype), torch.ones(n, k, dtype=dtype)
    took: dict[torch.dtype, list[float]] = {dtype: [] for dtype in pairs}
    with torch.inference_mode():
        for a, b in pairs.values():
            linear(a, b)  # libraries prepare themselves at the first product of a size
        started, used = time.perf_counter(), time.process_time()
        for turn in range(ROUNDS):
            if turn >= 2 and time.perf_counter() - started > budget_s:
                break
            for dtype, (a, b) in pairs.items():
                took[dtype].append(_seconds(a, b))
        share = (time.process_time() - used) / (time.perf_counter() - started) / torch.get_num_threads()
    single, half = took[torch.float32], took[torch.bfloat16]
    return Timings(work=2.0 * m * k * n, float32=tuple(single), bfloat16=tuple(half), share=share)


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the seconds of one product, repeated until they can be timed."""
    began, count, took = time.perf_counter(), 0, 0.0
    while took < BLOCK_SECONDS:
        linear(a, b)
        count += 1
        took = time.perf_counter() - began
    return took / count

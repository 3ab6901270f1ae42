"""Rows in batches of bounded size, and in smaller ones where memory runs out."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from cao.errors import UnavailableError
from cao.progress import Progress

T = TypeVar("T")


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield indices, longest first, so that rows × longest stays within ``budget`` (or is one row)."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if group and (len(group) + 1) * lengths[group[0]] > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or here."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def by_batches(
    lengths: Sequence[int], budget: int, work: Callable[[list[int]], Sequence[T]], label: str, progress: Progress
) -> list[T]:
    """Return what is made of each row, batch by batch.

    Where memory runs out, the batch is halved, and every one behind it; this is reported once.

    Args:
        lengths: tokens of each row.
        budget: padded tokens of one batch.
        work: indices of a batch → one result for each.
        label: what the work is called.
        progress: called after each batch.

    Raises:
        UnavailableError: there is not memory enough for a single row.
    """
    results, most = dict[int, T](), len(lengths)
    waiting = deque(batches(lengths, budget))
    while waiting:
        group = waiting.popleft()
        if len(group) > most:
            waiting.extendleft((group[most:], group[:most]))
            continue
        try:
            made = work(group)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if len(group) == 1:
                size = lengths[group[0]]
                raise UnavailableError(f"not memory enough for one question of {size} tokens; free some") from None
            if most == len(lengths):
                progress("out of memory, going on with smaller batches", len(results), len(lengths))
            most = len(group) // 2
            waiting.appendleft(group)
            continue
        results |= zip(group, made, strict=True)
        progress(label, len(results), len(lengths))
    return [results[i] for i in range(len(lengths))]

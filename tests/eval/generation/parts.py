"""Answers made by hand."""

from cao.types import Item
from eval.generation.bootstrap import Answers


def items(nll: list[float], correct: list[int], chars: int = 10) -> list[Item]:
    return [
        Item(id=f"q{i}", choice=0, gold=0, correct=bool(right), loss=value / 10, gold_nll=value, gold_chars=chars)
        for i, (value, right) in enumerate(zip(nll, correct, strict=True))
    ]


def answers(*seeds: tuple[list[float], list[int]]) -> Answers:
    return Answers.of([items(*seed) for seed in seeds])

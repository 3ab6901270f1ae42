"""What the benchmarks' tests share: some questions, and what holds for every result."""

import json

from cao.tasks.base import Task, choice_example
from eval.bench.measure import BenchResult
from eval.bench.scoring import Subject

PROMPTS = ["Question: Which of these animals can fly?", "Why do plants need the sun?", "Tom has 12", "A"]


def check(result: BenchResult) -> None:
    """Every result is JSON, says where it was measured, and is read again as it was written."""
    written = json.dumps(result.model_dump(mode="json"), allow_nan=False)
    assert type(result).model_validate_json(written) == result
    assert result.machine.cores


def subject() -> Subject:
    choices = ("the bird", "to sleep", "a fish")
    examples = [choice_example(f"Which of them is number {i}?", choices, i % 3) for i in range(6)]
    return Subject(Task("tiny", "Tiny", "a test", lambda: examples), examples)

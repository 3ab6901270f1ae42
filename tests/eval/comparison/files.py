"""Small files of every kind that eval.compare reads, in the formats of those who write them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.record.page.questions import keep_questions
from cao.tasks.base import choice_example
from cao.tasks.splits import Splits
from cao.types import Example, Item
from tests.agent.run_folders import record, side, write_run
from tools.evaluate import save_items

CHOICES = ("the bird", "the sun")


def questions(n: int) -> list[Example]:
    return [choice_example(f"Which of these is number {i}?", CHOICES, i % 2) for i in range(n)]


def score_output(path: Path, right: Sequence[bool], *, scale: float = 1.0, examples: Sequence[Example] = ()) -> str:
    """What eval.score --json prints: scores one apart, or ``scale``, of which the right or the wrong one is higher."""
    items = []
    for example, correct in zip(examples or questions(len(right)), right, strict=True):
        choice = example.answer if correct else 1 - example.answer
        scores = [scale * (i == choice) - scale for i in range(2)]
        items.append({"id": example.id, "scores": scores, "choice": choice, "gold": example.answer, "correct": correct})
    whole = {"task": "animals", "split": "all", "model": "tiny", "adapter": None, "protocol": "likelihood"}
    path.write_text(json.dumps({**whole, "accuracy": 0.5, "n": len(items), "items": items}) + "\n")
    return str(path)


def sample(i: int, example: Example, right: bool, **changed: Any) -> dict[str, Any]:
    """A line of a sample log of a multiple-choice task, as lm_eval 0.4.13 writes it."""
    prompt = f"Question: {example.question}\nAnswer:"
    lls = [-2.0 if (k == example.answer) == right else -3.0 for k in range(2)]
    replies = [[str(ll), "False"] for ll in lls]
    return {
        "doc_id": i,
        "doc": {"question": example.question, "choices": list(example.choices), "answer": example.answer},
        "target": str(example.answer),
        "arguments": {
            f"gen_args_{k}": {"arg_0": prompt, "arg_1": f" {choice}"} for k, choice in enumerate(example.choices)
        },
        "resps": [[reply] for reply in replies],
        "filtered_resps": replies,
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": f"{i:064x}",
        "prompt_hash": "44" * 32,
        "target_hash": "5f" * 32,
        "acc": float(right),
        "acc_norm": float(right),
        **changed,
    }


def log(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "samples_animals_2026-11-26T16-31-39.123456.jsonl"
    folder.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sample_log(folder: Path, right: Sequence[bool]) -> str:
    return log(folder, [sample(i, *pair) for i, pair in enumerate(zip(questions(len(right)), right, strict=True))])


def run_folder(out: Path, name: str, right: Sequence[bool]) -> Path:
    """A finished run whose adopted model answered ``right``."""
    told, n = record(name), len(right)
    told["test"] |= {kind: side(0.5, 1.0, n) for kind in ("baseline", "adapted")}
    path, asked = write_run(out, name, told), questions(n)
    keep_questions(path, Splits((), (), tuple(asked)))
    for file, answers in (("test-baseline", [False] * n), ("test-adapted", right)):
        items = [
            Item(
                id=example.id,
                scores=tuple(float((i == example.answer) == correct) for i in range(2)),
                choice=example.answer if correct else 1 - example.answer,
                gold=example.answer,
                correct=correct,
                loss=0.5,
            )
            for example, correct in zip(asked, answers, strict=True)
        ]
        save_items(path / "items" / f"{file}.jsonl", items)
    return path

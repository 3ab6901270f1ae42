"""The run command on a tiny random Qwen2: its arguments, its record, and what two runs must agree on."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.run import main

TTL = {"family": "TTL", "ttl_steps": 6, "learning_rate": 0.01, "batch_size": 2, "shuffle_data": True}
LATENT = {"family": "Latent", "slot_steps": 2, "slot_lr": 0.05}
MIX = {"family": "LORA", "lambda": 0.5}
TTS = {"family": "TTS", "num_prompt_batches": 2, "method": "avg_prompt_embed"}
SIZES = ["--support", "8", "--reward", "12", "--test", "12"]


GOLD, WRONG = "the bird can fly", "#7{4q~"


def echo_rows() -> list[dict[str, Any]]:
    """Questions whose gold answer is worded like the prompts, as the first and as the second choice by turns."""
    return [
        {
            "question": f"the bird can fly {n} times. what can the bird do?",
            "choices": [WRONG, GOLD] if n % 2 else [GOLD, WRONG],
            "answer": n % 2,
        }
        for n in range(60)
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a task's file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def strategies(folder: Path, *lines: object) -> Path:
    path = folder / "strategies.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def arguments(questions: Path, model: Path, out: Path, plan: Path, *more: str) -> list[str]:
    chosen = ["--model", "qwen2.5-0.5b", "--set", f"model_path={model}", "--policy", "fixed", "--offline"]
    return [
        *("--task", str(questions), "--out", str(out), *SIZES, *chosen),
        *("--set", f"policy_settings.strategy_file={plan}", "--json", *more),
    ]


def run(capsys: pytest.CaptureFixture[str], argv: list[str]) -> dict[str, Any]:
    code = main(argv)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    record: dict[str, Any] = json.loads(captured.out)
    return record


RESULT_KEYS = (
    "status",
    "task",
    "splits",
    "drift",
    "context",
    "adapters",
    "reward",
    "test",
    "adopted",
    "smallest_detectable",
    "evaluations",
)


def result(record: dict[str, Any]) -> dict[str, Any]:
    """What two runs with one seed must agree on: everything but times, ids, paths, and what memory happened to hold."""
    trials = [{k: v for k, v in trial.items() if k != "seconds"} for trial in record["trials"]]
    evaluations = {k: v for k, v in record["evaluations"].items() if k != "reused"}
    return {**{key: record[key] for key in RESULT_KEYS}, "trials": trials, "evaluations": evaluations}


def lines_but_loading(err: str) -> int:
    """The lines besides those that tell of the model being loaded."""
    return sum("loading the language model" not in line for line in err.splitlines())

"""A table of the paper's kind from made figures."""

from typing import Any

from eval.paper.results import TableResult


def made_table(tasks: tuple[str, ...], kind: str, **more: Any) -> TableResult:
    """A table on tasks of one kind, eight questions each; ``more`` says what it holds, and what else is to be so."""
    told: dict[str, Any] = {
        "command": "the command",
        "table": "2",
        "measured": "2026-01-01",
        "model": "tiny",
        "model_sha256": "0" * 64,
        "device": "cpu",
        "dtype": "float32",
        "machine": "a machine",
        "preset": "quick",
        "protocol": "likelihood",
        "rules": "equal",
        "share": 0.1,
        "adapting": 0.5,
        "rates": (3e-4,),
        "reward": 96,
        "rule_choice": "the best one",
        "limit": 100,
        "seeds": (0,),
        "tasks": tasks,
        "kinds": dict.fromkeys(tasks, kind),
        "chance": dict.fromkeys(tasks, 0.25),
        "n": dict.fromkeys(tasks, 8),
        "versus": (),
    }
    return TableResult(**{**told, **more})

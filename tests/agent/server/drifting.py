"""Prompts that drift, as clients put them to a server, and the configuration of runs that adapt to them."""

import json
from pathlib import Path
from typing import Any

from agent.server.settings import ServeOptions
from tests.agent.run.tiny_runs import GOLD, WRONG
from tests.agent.server.running_site import Served, options


def usual(n: int) -> list[dict[str, Any]]:
    """Questions of the task that is expected, with their choices."""
    from cao.tasks import get_task
    from cao.tasks.splits import part

    every = {one.group: one for one in part(get_task("piqa"), "support")}
    return [{"question": one.prompt, "choices": list(one.choices)} for one in list(every.values())[:n]]


def new(n: int, begin: int = 0) -> list[dict[str, Any]]:
    """Questions of another task; the right choice is the first and the second by turns."""
    return [
        {
            "question": f"the bird can fly {i} times. what can the bird do?",
            "choices": [WRONG, GOLD] if i % 2 else [GOLD, WRONG],
            "answer": i % 2,
        }
        for i in range(begin, begin + n)
    ]


def configuration(folder: Path) -> Path:
    """A file by which a run trains on the prompts and takes what comes of it."""
    steps = {"family": "TTL", "ttl_steps": 20, "learning_rate": 0.01, "batch_size": 2, "shuffle_data": True}
    (folder / "plan.jsonl").write_text(json.dumps(steps) + "\n")
    file = folder / "c.toml"
    file.write_text(
        f'policy = "fixed"\nmax_attempts = 1\naccept = "any"\npolicy_settings.strategy_file = "{folder}/plan.jsonl"\n'
    )
    return file


def drifting(model: Path, out: Path, **more: Any) -> ServeOptions:
    return options(model, out, **{"reference": ["piqa"], "window": 64, "adapt": True, **more})


def ask(it: Served, row: dict[str, Any], model: str = "auto") -> tuple[str, str, int]:
    """Put a question; returns the response's id, who answered, and the choice."""
    messages = [{"role": "user", "content": row["question"]}]
    status, told, _ = it.post("/v1/chat/completions", model=model, messages=messages, choices=row["choices"])
    assert status == 200, told
    return told["id"], told["model"], told["choices"][0]["cao"]["choice"]

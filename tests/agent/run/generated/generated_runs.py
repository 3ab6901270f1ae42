"""The run command with trained parts: its strategies and its arguments."""

import json
from pathlib import Path
from typing import Any

from tests.agent import tiny_pretrained
from tests.agent.run.tiny_runs import GOLD, WRONG

TTL = {"family": "TTL", "ttl_steps": 2, "learning_rate": 1e-7, "batch_size": 1, "shuffle_data": True}
LATENT = {"family": "Latent", "slot_steps": 1, "slot_lr": 1e-5}
TASK = "echoes"
ASKED = [
    f"Question: the bird can fly {n} times. what can the bird do?\nA. {first}\nB. {second}\nAnswer:"
    for n in range(60, 80)
    for first, second in [(WRONG, GOLD) if n % 2 else (GOLD, WRONG)]
]
RIGHT = [(prompt, " B" if n % 2 else " A") for n, prompt in enumerate(ASKED)]
WORST = [(prompt, " A" if n % 2 else " B") for n, prompt in enumerate(ASKED)]


def command(questions: Path, model: Path, folder: Path, strategies: list[Any], *more: str) -> list[str]:
    plan = folder / "strategies.jsonl"
    plan.write_text("".join(json.dumps(strategy) + "\n" for strategy in strategies))
    return [
        *("--task", str(questions), "--out", str(folder / "runs"), "--model", tiny_pretrained.MODEL, "--offline"),
        *("--set", f"model_path={model}", "--policy", "fixed", "--set", f"policy_settings.strategy_file={plan}"),
        *("--support", "8", "--reward", "12", "--test", "12", "--max-attempts", str(len(strategies)), "--json"),
        *("--set", f"pretrained={folder / 'pretrained'}", *more),
    ]

"""What a run would do and cost, told before anything is computed (``--dry-run``)."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from agent.config import RunConfig
from agent.trained import expected_variant
from cao.tasks.base import Task
from cao.tasks.parts import Splits
from cao.types import Example, Protocol

CHARACTERS_PER_TOKEN = 4.0
SAMPLING_TOKENS_PER_SECOND = 110
"""Sampling of SmolLM2-135M at batch 20 on two cores; other models in proportion to FORWARD_TOKENS_PER_SECOND."""
FORWARD_TOKENS_PER_SECOND = {"smollm2-135m": 1000, "qwen2.5-0.5b": 300, "qwen2.5-1.5b": 100}
"""Forward rates seen on two cores in bf16; a GPU is two to three orders of magnitude faster."""
ATTEMPT_OVER_FORWARD = 3.0
"""Applying a strategy costs about this many forwards of the reward part (TTL's training, Latent's steps)."""
ENCODING_SECONDS = 20
STARTS = {"none": 1, "generated": 2, "aligned": 3}
"""Models that are measured before the loop: the deployed one, and the adapters made for it."""


def plan(config: RunConfig, task: Task, splits: Splits, protocol: Protocol) -> dict[str, Any]:
    """Return the plan with its estimated cost.

    Args:
        config: the run's configuration.
        task: what would be adapted to.
        splits: the questions that would be asked.
        protocol: how answers would be judged.
    """
    variant = expected_variant(config, task.name)
    rate = FORWARD_TOKENS_PER_SECOND.get(config.model, 100)
    slower = FORWARD_TOKENS_PER_SECOND["smollm2-135m"] / rate

    def forward(examples: list[Example]) -> float:
        tokens = sum(len(e.prompt) + sum(map(len, e.choices)) for e in examples) / CHARACTERS_PER_TOKEN
        seconds = tokens / rate
        if protocol == "generate":
            seconds += slower * len(examples) * task.max_new_tokens / SAMPLING_TOKENS_PER_SECOND
        return seconds

    reward, test = forward(splits.reward), forward(splits.test)
    starts = STARTS[config.adapter] if variant else 1
    stages = {
        "describe": 20 * slower if config.describer == "local" else 1.0,
        "detect": float(ENCODING_SECONDS),
        "start": starts * reward,
        "each attempt": reward * (1 + ATTEMPT_OVER_FORWARD) + 5 * slower,
        "test": 2 * test,
    }
    fixed = stages["describe"] + stages["detect"] + stages["start"] + stages["test"]
    requests = (config.describer == "openai") + config.max_attempts * (config.policy == "openai")
    return {
        "task": task.name,
        "source": task.source,
        "model": config.model,
        "policy": config.policy,
        "describer": config.describer,
        "protocol": protocol,
        "splits": {"support": len(splits.support), "reward": len(splits.reward), "test": len(splits.test)},
        "adapter": config.adapter,
        "variant": variant,
        "starts": starts,
        "max_attempts": config.max_attempts,
        "estimated_seconds": {name: round(seconds, 1) for name, seconds in stages.items()},
        "estimated_total_seconds": [
            round(fixed + stages["each attempt"], 0),
            round(fixed + config.max_attempts * stages["each attempt"], 0),
        ],
        "estimated_on": "two CPU cores",
        "paid_requests_at_most": requests,
        "dollars_at_most": config.policy_settings.max_dollars if requests else 0.0,
    }


def _starts(content: dict[str, Any]) -> str:
    """Say what the loop may start from."""
    if content["adapter"] == "none":
        return "the deployed model"
    if content["variant"] is None:
        return "the deployed model; a trained generator for its weights is not known of"
    made = "generated" if content["adapter"] == "generated" else "generated or the aligned"
    return f"the deployed model, the {made} adapter (generator “{content['variant']}”), whichever measures best"


def print_plan(config: RunConfig, task: Task, splits: Splits, protocol: Protocol, *, as_json: bool) -> None:
    """Print the plan on standard output, as one JSON object or for people."""
    content = plan(config, task, splits, protocol)
    if as_json:
        sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    table = Table(title=f"plan: {content['task']} on {content['model']}", title_justify="left", show_header=False)
    split = content["splits"]
    table.add_row("data", content["source"])
    table.add_row("questions", f"{split['support']} support, {split['reward']} reward, {split['test']} test")
    table.add_row("protocol", content["protocol"])
    table.add_row("start", _starts(content))
    table.add_row("policy, describer", f"{content['policy']}, {content['describer']}")
    for name, seconds in content["estimated_seconds"].items():
        table.add_row(name, f"about {seconds:.0f} s")
    low, high = content["estimated_total_seconds"]
    table.add_row("in all", f"{low:.0f} to {high:.0f} s on two CPU cores, 1 to {content['max_attempts']} attempts")
    table.add_row("paid requests", f"{content['paid_requests_at_most']} at most (≤ ${content['dollars_at_most']:.2f})")
    console.print(table)
    console.print("Nothing was computed. Run the same command without --dry-run.")

"""A grid over the strategies: what an exhaustive search tries, and the arms of a bandit.

Source: CAO-LLM G.6 (families and keys) and its table of best choices, which is among the points; the grid is this
project's.
"""

from collections.abc import Iterable
from itertools import product

from cao.strategy import TTL, TTS, Latent, LoraMix, Strategy

PAPERS_CHOICES: dict[str, tuple[str, ...]] = {
    "TTL": ("arc_easy", "jama", "piqa"),
    "Latent": ("arc_challenge", "social_iqa"),
    "LORA": ("boolq", "gsm8k", "math"),
    "TTS": ("hellaswag", "divlogiceval", "codemmlu"),
}
"""Family → the tasks that the paper found it best for."""

PAPERS_NUMBERS: dict[str, Strategy] = {
    "TTL": TTL(family="TTL", ttl_steps=25, learning_rate=1e-5, batch_size=4, shuffle_data=True),
    "Latent": Latent(family="Latent", slot_steps=5, slot_lr=0.1),
    "LORA": LoraMix(family="LORA", **{"lambda": 0.5}),
    "TTS": TTS(family="TTS", num_prompt_batches=20, method="max_confidence"),
}
"""Family → its numbers in the paper."""

STEPS, RATES = (10, 25), (1e-4, 3e-4)
LAMBDAS = (0.25, 0.5, 0.75, 1.0)
SLOT_STEPS, SLOT_RATES = (3, 5, 10), (0.003, 0.01, 0.03, 0.1)
BATCHES = (4, 8)
METHODS = ("avg_sim_score", "avg_prompt_embed", "max_confidence", "majority_vote", "sum_logprobs")


def grid(families: Iterable[str]) -> list[Strategy]:
    """Return the grid's points of some families, cheap families first.

    Args:
        families: names.
    """
    points: dict[str, list[Strategy]] = {
        "LORA": [LoraMix(family="LORA", **{"lambda": value}) for value in LAMBDAS],
        "Latent": [
            Latent(family="Latent", slot_steps=steps, slot_lr=rate) for steps, rate in product(SLOT_STEPS, SLOT_RATES)
        ],
        "TTS": [
            *(TTS(family="TTS", num_prompt_batches=m, method=method) for m, method in product(BATCHES, METHODS)),  # type: ignore[arg-type]
            PAPERS_NUMBERS["TTS"],
        ],
        "TTL": [
            PAPERS_NUMBERS["TTL"],
            *(
                TTL(family="TTL", ttl_steps=steps, learning_rate=rate, batch_size=4, shuffle_data=True)
                for rate, steps in product(RATES, STEPS)
            ),
        ],
    }
    wanted = set(families)
    return [point for family, some in points.items() if family in wanted for point in some]


def papers_choice(task: str) -> Strategy | None:
    """Return what the paper found best for a task, None where it does not speak of it.

    Args:
        task: its name; ``arc_challenge`` and the like.

    Source: CAO-LLM G, table of best choices.
    """
    family = next((family for family, tasks in PAPERS_CHOICES.items() if task in tasks), None)
    return PAPERS_NUMBERS[family] if family else None

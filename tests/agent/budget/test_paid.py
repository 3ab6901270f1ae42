"""What a run may ask of a paid server, as ``--dry-run`` states it."""

import pytest

from agent.budget.plan import paid_at_most
from agent.config import RunConfig
from cao.policy_settings import PolicySettings


def config(policy: str, describer: str, **settings: object) -> RunConfig:
    return RunConfig(
        task="gsm8k", policy=policy, describer=describer, policy_settings=PolicySettings.model_validate(settings)
    )


@pytest.mark.parametrize(
    ("policy", "describer", "attempts", "most"),
    [
        ("local", "cached", 4, (0, 0.0)),
        ("openai", "cached", 0, (0, 0.0)),
        ("openai", "cached", 1, (3 * 4 * 3, 0.5)),  # replies, tries, forms
        ("openai", "cached", 4, (50, 0.5)),  # its own bound
        ("local", "openai", 4, (4 * 3, 0.5)),
        ("openai", "openai", 4, (50 + 12, 1.0)),  # each has a budget
    ],
)
def test_what_is_sent_again_counts_and_describer_and_policy_pay_each(
    policy: str, describer: str, attempts: int, most: tuple[int, float]
) -> None:
    assert paid_at_most(config(policy, describer), attempts) == most


def test_dollars_bound_nothing_where_the_models_price_is_unknown() -> None:
    assert paid_at_most(config("openai", "cached", openai_model="another"), 1) == (36, None)

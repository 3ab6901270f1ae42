"""The defining properties of LoRA trained on labels alone: Union-Train on all sources, No-Meta-Train on the target."""

from dataclasses import replace

import pytest

from cao.model.adapters import adapter_sha256
from cao.types import Example
from eval.baselines import union_train
from eval.baselines.baseline import Budget, Prepared, adapted, prepared
from eval.baselines.ground import Ground, Target
from eval.baselines.objective import Questions
from eval.baselines.registry import BASELINES

BUDGET, RATE = Budget(preparing=6000, adapting=3000), 1e-2


def loss(ground: Ground, target: Target, weights: object) -> float:
    rows = ground.objective.rows(ground.lm, target.task, target.train[:8], 512)
    with ground.lm.adapted(weights):
        return float(ground.objective.loss(ground.lm, rows, gradient=False))


def turned(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    """The same questions with another answer each."""
    return tuple(one.model_copy(update={"answer": (one.answer + 1) % len(one.choices)}) for one in examples)


@pytest.mark.slow
def test_union_train_draws_from_every_source_and_makes_one_adapter_for_all_targets(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools, real = list[Questions](), union_train.drawn

    def drawing(pool: Questions, *more: int) -> Questions:
        pools.append(pool)
        return real(pool, *more)

    monkeypatch.setattr(union_train, "drawn", drawing)
    method = BASELINES["union_train"].equal(BUDGET, RATE, ground)
    ready = prepared(method, ground)
    of_sources = [ground.rows(source, ground.objective) for source in ground.variant.sources]
    assert len(of_sources) > 1
    assert all(any([*drawn] == [*pool] for drawn in pools) for pool in of_sources)
    made = [adapted(method, ground, ready, ground.target(task, 0)).weights for task in ("social_iqa", "boolq")]
    assert all(weights is not None for weights in made)
    assert len({adapter_sha256(weights) for weights in made if weights}) == 1


@pytest.mark.slow
def test_no_meta_train_learns_the_targets_train_labels_and_reads_no_others(ground: Ground) -> None:
    method, target = BASELINES["no_meta_train"].equal(BUDGET, RATE, ground), ground.target("social_iqa", 0, train=True)
    others = {
        "as it is": target,
        "other support": replace(target, support=turned(target.support)),
        "other reward": replace(target, reward=turned(target.reward)),
        "other train": replace(target, train=turned(target.train)),
    }
    made = {name: adapted(method, ground, Prepared(), one).weights for name, one in others.items()}
    hashes = {name: adapter_sha256(weights) for name, weights in made.items() if weights is not None}
    assert hashes["as it is"] == hashes["other support"] == hashes["other reward"] != hashes["other train"]
    assert loss(ground, target, made["as it is"]) < loss(ground, target, ground.lm.fresh_lora(0))
    assert loss(ground, target, made["as it is"]) < loss(ground, target, made["other train"])

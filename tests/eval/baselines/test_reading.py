"""What a method says that it reads by its own settings is about what it reads: the seconds of a table rest on it."""

import pytest

from eval.baselines.abmll.method import Abmll, AbmllSettings
from eval.baselines.baseline import Baseline, adapted, prepared
from eval.baselines.descent import Extent, mean_tokens
from eval.baselines.ground import Ground
from eval.baselines.labelled_lora import LabelledLora, LabelledSettings
from eval.baselines.maml import MamlEnLlm, MamlSettings
from eval.baselines.no_meta_train import NoMetaTrain
from eval.baselines.registry import BASELINES
from eval.baselines.text_to_lora import TextSettings, TextToLora
from eval.baselines.union_train import UnionTrain
from eval.policies.labelled_lora import Recipe
from tests.eval.baselines.test_text_to_lora import PRESET
from tools.generate_lora.checkpoints import CheckpointPreset

SCHEDULE = CheckpointPreset(warm_steps=6, kept_steps=4, batch=4, samples=40)

SMALL = (
    NoMetaTrain(SCHEDULE),
    UnionTrain(SCHEDULE),
    MamlEnLlm(MamlSettings(epochs=1, batch=2, extent=Extent(steps=20), testing=Extent(steps=3), support=8)),
    Abmll(AbmllSettings(epochs=1, extent=Extent(steps=6), testing=Extent(steps=10))),
    TextToLora(TextSettings(preset=PRESET)),
    LabelledLora(LabelledSettings(recipe=Recipe(rates=(1e-4,), epochs=2))),
)


@pytest.mark.slow
@pytest.mark.parametrize("method", SMALL, ids=lambda method: method.name)
def test_a_method_reads_what_it_says(method: Baseline, ground: Ground) -> None:
    sources = ground.variant.sources
    target = ground.target("social_iqa", 0, train=method.reads == "train labels")
    ready = prepared(method, ground)
    made = adapted(method, ground, ready, target)
    pooled = sum(len(ground.examples(source)) for source in sources)
    said = method.reading(pooled, len(target.reward))
    means = (
        mean_tokens([ground.rows(source, ground.objective) for source in sources]),
        mean_tokens([target.rows(ground.lm, ground.objective, target.support)]),
    )
    for questions, spent, mean in zip(said, (ready.spent, made.spent), means, strict=True):
        assert (spent.tokens or 0) / mean == pytest.approx(questions, rel=0.6)


def test_every_method_that_trains_says_that_it_reads() -> None:
    trained = {name for name, kind in BASELINES.items() if any(kind.paper().reading(1000, 96))}
    assert set(BASELINES) - trained == {"base", "mean", "nearest"}


def test_the_papers_own_trainings_are_far_apart() -> None:
    said = {name: sum(kind.paper().reading(80_000, 96)) for name, kind in BASELINES.items()}
    assert said["no_meta_train"] == said["union_train"] == 125 * 32
    assert said["maml"] == 50_000 * 2 + 250
    assert said["maml"] > 20 * said["union_train"]

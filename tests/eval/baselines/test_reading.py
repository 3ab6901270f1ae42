"""What a baseline is reckoned to read by its own settings is about what it reads: a table's plan rests on it."""

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
from eval.paper.cells.reading import Reading, reading
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
    told = reading(method, pooled, len(target.reward), 8)
    before = mean_tokens([ground.rows(source, told.objective) for source in sources])
    after = mean_tokens([target.rows(ground.lm, told.objective, target.support)])
    assert (ready.spent.tokens or 0) / before == pytest.approx(told.preparing, rel=0.3)
    early = 0.6 if method.name == "labelled_lora" else 0.3  # it may end before its last epoch
    assert (made.spent.tokens or 0) / after == pytest.approx(told.adapting, rel=early)


def test_whatever_trains_by_the_papers_settings_is_reckoned_to_read() -> None:
    told = {name: reading(kind.paper(), 80_000, 96, 8) for name, kind in BASELINES.items()}
    assert {name for name, one in told.items() if one == Reading()} == {"base", "mean", "nearest"}
    assert told["no_meta_train"] == Reading(adapting=125 * 32)
    assert told["union_train"] == Reading(preparing=125 * 32)
    assert told["maml"] == Reading(50_000 * 2, 10 * 25)
    assert told["abmll"] == Reading(800_000, 10)
    assert told["serl"] == Reading(adapting=2000 * 16, written=2000 * (256 + 16 * 8))

"""What baselines work with: known by all that it depends on, with the reward questions that every row has."""

from dataclasses import replace

import pytest

from cao.tasks import get_task
from cao.tasks.splits import choose, part
from eval.baselines.ground import Ground, ground_of
from eval.generation.workshop import Workshop


def under(ground: Ground, **changed: object) -> Ground:
    """The same sources under another preset."""
    consolidation, lm = ground.workshop.consolidation, ground.lm
    other = replace(consolidation, preset=consolidation.preset.model_copy(update=changed), load_lm=lambda: lm)
    return replace(ground, workshop=Workshop(other))


@pytest.mark.slow
def test_another_setting_of_the_preset_is_another_ground(ground: Ground) -> None:
    preset = ground.workshop.consolidation.preset
    assert under(ground).about == ground.about
    changed = {
        "generator": preset.generator.model_copy(update={"batch": preset.generator.batch + 1}),
        "checkpoints": preset.checkpoints.model_copy(update={"kept_steps": preset.checkpoints.kept_steps + 1}),
    }
    assert all(under(ground, **{name: value}).about != ground.about for name, value in changed.items())


@pytest.mark.slow
def test_another_setting_of_the_profile_is_another_ground(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    about = ground.about
    monkeypatch.setattr(ground.lm, "profile", replace(ground.lm.profile, chat=not ground.lm.profile.chat))
    assert replace(ground).about != about


@pytest.mark.slow
def test_every_seed_reads_the_reward_questions_of_all_rows(workshop: Workshop) -> None:
    drawn = choose(part(get_task("social_iqa"), "reward"), 96, "0:reward")
    targets = [ground_of(workshop, "social_iqa").target("social_iqa", seed) for seed in (0, 1)]
    assert [list(target.reward) for target in targets] == [drawn, drawn]
    assert targets[0].support != targets[1].support
    fewer = ground_of(Workshop(workshop.consolidation, reward=48), "social_iqa").target("social_iqa", 1)
    assert list(fewer.reward) == drawn[:48]

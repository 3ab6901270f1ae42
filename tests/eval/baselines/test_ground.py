"""What baselines work with: known by all that it depends on, with the reward questions that every row has."""

from dataclasses import replace

import pytest

from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.splits import choose, part
from eval.baselines.ground import Ground, ground_of
from eval.baselines.objective import tokens_of
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
def test_how_a_task_is_asked_and_described_is_part_of_what_a_training_depends_on(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    style, target, about = ground.lm.profile.answer_style, ground.target("social_iqa", 0), ground.about
    before = target.about(style)
    assert replace(target, task=replace(target.task, description="another")).about(style) != before
    plain = Task.query
    monkeypatch.setattr(Task, "query", lambda *given: plain(*given).model_copy(update={"prefix": "Say: "}))
    assert target.about(style) != before
    assert replace(ground).about != about


@pytest.mark.slow
def test_a_target_is_read_whole_where_a_sources_question_loses_its_beginning(ground: Ground) -> None:
    target, objective = ground.target("boolq", 0), ground.objective
    cut = objective.rows(ground.lm, target.task, target.support, ground.row_tokens)
    whole = target.rows(ground.lm, objective, target.support)
    assert tokens_of(whole) > 2 * tokens_of(cut)


@pytest.mark.slow
def test_a_practice_task_may_be_a_target(ground: Ground) -> None:
    assert ground.target("mmlu_professional_law", 0).support


@pytest.mark.slow
def test_every_seed_reads_the_reward_questions_of_all_rows(workshop: Workshop) -> None:
    drawn = choose(part(get_task("social_iqa"), "reward"), 96, "0:reward")
    targets = [ground_of(workshop, "social_iqa").target("social_iqa", seed) for seed in (0, 1)]
    assert [list(target.reward) for target in targets] == [drawn, drawn]
    assert targets[0].support != targets[1].support
    fewer = ground_of(Workshop(workshop.consolidation, reward=48), "social_iqa").target("social_iqa", 1)
    assert list(fewer.reward) == drawn[:48]

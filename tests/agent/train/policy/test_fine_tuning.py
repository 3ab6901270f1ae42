"""The fine-tuning of the policy: the loss of its replies by hand, and that it teaches."""

import json

import pytest
import torch

from agent.train.policy.fine_tune import Lesson, course, encode_lesson, fine_tune, reply_loss
from agent.train.policy.settings import Tuning
from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.strategy import parse_strategy
from cao.types import Trial
from policies.base import PolicyContext
from policies.local import LocalPolicy

LATENT = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'
OTHER = '{"family": "LORA", "lambda": 0.5}'


def test_the_loss_is_that_of_each_reply_alone(tiny_lm: LanguageModel) -> None:
    tiny_lm.model = tiny_lm.model.float()
    lesson = Lesson("Choose a strategy:", [LATENT, OTHER, "{}"])
    with torch.no_grad():
        found = float(reply_loss(tiny_lm, encode_lesson(tiny_lm, lesson)))
        prompt, losses = tiny_lm.encode(lesson.prompt, special=False), []
        for reply in lesson.replies:
            ids = [*prompt, *tiny_lm.encode(reply, special=False), tiny_lm.tokenizer.eos_token_id]
            logits = tiny_lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            losses += [-float(logits[t - 1, ids[t]]) for t in range(len(prompt), len(ids))]
    assert found == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    counts = [len(tiny_lm.encode(reply, special=False)) + 1 for reply in lesson.replies]
    weights = [0.5] * counts[0] + [2.0] * counts[1] + [0.0] * counts[2]
    weighted = Lesson(lesson.prompt, lesson.replies, [0.5, 2.0, 0.0])
    with torch.no_grad():
        found = float(reply_loss(tiny_lm, encode_lesson(tiny_lm, weighted)))
    plain = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / len(losses)
    assert found == pytest.approx(plain, abs=1e-4)


def test_a_lesson_is_read_by_its_share_and_once_at_least() -> None:
    shares = [1.0, 2.0, 1.0, 0.0]
    lessons = [Lesson(str(i), ["b"], share=share) for i, share in enumerate(shares)]
    assert course(lessons, Tuning(epochs=2)) == [0, 0, 1, 1, 1, 1, 2, 2, 3]
    assert course(lessons[:1] * 3, Tuning(epochs=2)) == [0, 0, 1, 1, 2, 2]
    assert len(course(lessons, Tuning(epochs=1, least_steps=40))) == 41


@pytest.mark.slow
def test_few_lessons_are_taught_until_there_are_steps_enough(roomy_lm: LanguageModel) -> None:
    lessons, losses = [Lesson("a", ["b"]), Lesson("c", ["d"])], list[float]()
    made = fine_tune(roomy_lm, lessons, roomy_lm.fresh_lora(0), Tuning(epochs=1, least_steps=5), losses=losses)
    assert (len(losses), made.provenance["steps"]) == (6, "6")  # three of each


@pytest.mark.slow
def test_fine_tuning_teaches_the_reply_and_is_repeatable(roomy_lm: LanguageModel) -> None:
    policy = LocalPolicy(roomy_lm, PolicySettings(adapter="none"))
    lesson = Lesson(policy.prompt(PolicyContext(task_context="A task.")), [OTHER])
    tuning, start = Tuning(epochs=8, rate=1e-2), roomy_lm.fresh_lora(0)
    first, second = (fine_tune(roomy_lm, [lesson], start, tuning) for _ in range(2))
    row = encode_lesson(roomy_lm, lesson)
    with torch.no_grad():
        before = float(reply_loss(roomy_lm, row))
        with roomy_lm.adapted(first):
            after = float(reply_loss(roomy_lm, row))
    assert after < before - 0.5
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


@pytest.mark.slow
def test_a_policy_that_has_learnt_one_thing_still_finds_another(roomy_lm: LanguageModel) -> None:
    failed = Trial(attempt=1, strategy=json.loads(OTHER), accepted=False, reason="no")
    context = PolicyContext(task_context="A task.", history=(failed,))
    learnt = OTHER.replace(" ", "")  # the form that the grammar leaves to a model
    lesson = Lesson(LocalPolicy(roomy_lm, PolicySettings()).prompt(context), [learnt])
    taught = fine_tune(roomy_lm, [lesson], roomy_lm.fresh_lora(0), Tuning(epochs=60, rate=1e-2))
    policy = LocalPolicy(roomy_lm, PolicySettings(), taught)
    assert policy.draw(context, 5, 0) == [learnt] * 5
    [text] = policy.propose(context, 1, 0)
    assert parse_strategy(text).canonical() != json.loads(OTHER)
    assert policy.stats["repeated"] >= 1


def test_a_prompt_beyond_the_context_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="the model reads 2048"):
        encode_lesson(tiny_lm, Lesson("word " * 3000, [OTHER]))

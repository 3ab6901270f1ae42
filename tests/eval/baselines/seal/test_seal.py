"""SEAL's kind on the tiny model: recipes that help are reinforced, and no others."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent.train.policy.fine_tune import Lesson, encode_lesson, reply_loss
from cao.errors import InputError
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from eval.baselines.baseline import Place, Prepared
from eval.baselines.descent import Read
from eval.baselines.ground import Ground, Target
from eval.baselines.objective import tokens_of
from eval.baselines.seal import method
from eval.baselines.seal.method import Seal, SealSettings
from eval.baselines.seal.recipe import TrainingRecipe, Tried, asking, parse, winners

GOOD = '{"learning_rate":0.001,"epochs":2,"batch":4}'
BAD = '{"learning_rate":0.00001,"epochs":1,"batch":8}'


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (GOOD, True),
        (GOOD.replace("4", "3"), False),
        (GOOD.replace("}", ',"rank":8}'), False),
        (GOOD.replace("2", '"2"'), False),
        ("as above", False),
    ],
)
def test_only_what_is_offered_is_a_recipe(text: str, known: bool) -> None:
    found = parse(text)
    assert (found is not None) == known
    assert found is None or found == TrainingRecipe(learning_rate=1e-3, epochs=2, batch=4)


def test_lessons_are_the_winners_each_once() -> None:
    tried = [Tried("a", GOOD, True), Tried("a", BAD, False), Tried("a", GOOD, True), Tried("b", BAD, False)]
    assert winners(tried) == [Lesson("a", [GOOD])]
    assert winners(tried[1:2]) == []


def likelihoods(lm: LanguageModel, policy: LoraWeights, prompt: str) -> list[float]:
    """The loss of the good and of the bad recipe's text under a policy."""
    with lm.adapted(policy):
        return [float(reply_loss(lm, encode_lesson(lm, Lesson(prompt, [text])))) for text in (GOOD, BAD)]


@pytest.mark.slow
def test_recipes_that_help_are_reinforced(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy writes both; one helps; after the preparation it is that one which is likelier."""
    taught, plain = list[Lesson](), method.fine_tune

    class Scripted(Seal):
        def written(self, ground: Ground, policy: LoraWeights, prompt: str, label: str) -> list[str]:
            return [GOOD, BAD, "no recipe"]

        def tried(self, *given: Any) -> tuple[list[Tried], int]:
            found, steps = super().tried(*given)
            assert [one.text for one in found] == [GOOD, BAD]
            return [replace(one, helped=one.text == GOOD) for one in found], steps

    def seen(lm: LanguageModel, lessons: Sequence[Lesson], *given: Any, **more: Any) -> LoraWeights:
        taught.extend(lessons)
        return plain(lm, lessons, *given, **more)

    monkeypatch.setattr(method, "fine_tune", seen)
    seal = Scripted(SealSettings(iterations=1, sources=1, held=4, support=4))
    made = seal.prepare(ground, Place())
    assert [lesson.replies for lesson in taught] == [[GOOD]]
    before = likelihoods(ground.lm, ground.lm.fresh_lora(0), taught[0].prompt)
    after = likelihoods(ground.lm, ground.full(made.tensors, "seal"), taught[0].prompt)
    assert after[0] < before[0]
    assert before[0] - after[0] > before[1] - after[1]
    assert made.spent.tokens is not None
    assert made.spent.tokens > 0


@pytest.mark.slow
def test_what_the_policy_writes_under_the_grammar_is_a_recipe_and_is_tried(ground: Ground) -> None:
    seal = Seal(SealSettings(samples=6, held=8, support=8))
    found, steps = seal.tried(ground, ground.lm.fresh_lora(0), ground.variant.sources[0], 0, Read())
    assert all(parse(one.text) for one in found)
    assert steps >= len(found) > 0


@pytest.mark.slow
def test_the_target_gets_lora_by_what_the_policy_writes(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    seal, target = Seal(SealSettings(support=4)), ground.target("social_iqa", 0)
    ready = Prepared(ground.lm.fresh_lora(0).tensors)
    monkeypatch.setattr(Seal, "written", lambda *given: ["no recipe", GOOD])
    made = seal.adapt(ground, ready, target, Place())
    assert made.weights is not None
    assert made.spent.steps == 2  # two epochs of four questions, four a step
    monkeypatch.setattr(Seal, "written", lambda *given: ["no recipe"])
    with pytest.raises(InputError, match="none of 1 texts for social_iqa is a recipe"):
        seal.adapt(ground, ready, target, Place())


@pytest.mark.slow
def test_what_the_policy_reads_to_write_counts_and_is_paid_from_the_budget(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, ready, plain = ground.target("social_iqa", 0), Prepared(ground.lm.fresh_lora(0).tensors), Seal.written
    monkeypatch.setattr(Seal, "written", lambda *given: [GOOD])
    bare = Seal(SealSettings(support=4)).adapt(ground, ready, target, Place()).spent
    monkeypatch.setattr(Seal, "written", lambda *given: plain(*given) and [GOOD])
    counted = Seal(SealSettings(support=4)).adapt(ground, ready, target, Place()).spent
    assert bare.tokens is not None
    assert counted.tokens is not None
    prompt = ground.lm.encode(asking(ground.lm, [example.prompt for example in target.support]))
    assert counted.tokens - bare.tokens >= len(prompt)
    assert (bare.steps, counted.steps) == (2, 2)
    bounded = Seal(SealSettings(support=4, steps=2))  # pays for both steps, but not for the writing besides
    assert bounded.adapt(ground, ready, target, Place()).spent.steps == 1
    monkeypatch.setattr(Seal, "written", lambda *given: [GOOD])
    assert bounded.adapt(ground, ready, target, Place()).spent.steps == 2


@pytest.mark.slow
def test_a_recipe_is_tried_with_no_more_than_the_target_will_have(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = '{"learning_rate":0.001,"epochs":8,"batch":4}'
    monkeypatch.setattr(Seal, "written", lambda *given: [long])
    given = (ground, ground.lm.fresh_lora(0), ground.variant.sources[0], 0, Read())
    assert Seal(SealSettings(support=4, held=4)).tried(*given)[1] == 8
    assert Seal(SealSettings(support=4, held=4, steps=3)).tried(*given)[1] == 3


@pytest.mark.slow
def test_a_preparation_keeps_to_its_tokens(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every recipe helps, so nothing but the tokens ends it: within a recipe's training, and before lessons unpaid."""
    monkeypatch.setattr(Seal, "written", lambda *given: [GOOD, BAD])
    whole = SealSettings(iterations=2, sources=2, held=4, support=4)

    def read_at_once(target: Target) -> int:
        """Tokens of a step of four questions, and of the four that judge, as much again for what fills them up."""
        parts = (target.support, target.reward)
        return 2 * sum(tokens_of(target.rows(ground.lm, whole.objective, some[:4])) for some in parts)

    class Helped(Seal):
        def tried(self, *given: Any) -> tuple[list[Tried], int]:
            found, steps = super().tried(*given)
            return [replace(one, helped=True) for one in found], steps

    free = Helped(whole).prepare(ground, Place()).spent.tokens
    assert free is not None
    longest = max(map(read_at_once, map(ground.rehearsal, ground.variant.sources)))
    for tokens in (free // 4, free // 2, free - 1):
        spent = Helped(whole.model_copy(update={"tokens": tokens})).prepare(ground, Place()).spent.tokens
        assert spent is not None
        assert spent < tokens + longest

"""The start's choice does not depend on how large a model's scores are."""

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.loop import answers, start
from agent.loop.start import measure_starts
from agent.loop.state import State
from cao.drift import DriftReport
from cao.tasks.base import Task, choice_example
from cao.types import AdaptedModel, AdapterRef, ChoiceLikelihood, Example, Item
from tests.agent.loop.rewards import adapter, bench
from tools.evaluate.answer_rule import ranked

LABELS = ("yes", "no")
EXAMPLES = [choice_example(f"Is {n} odd?", list(LABELS), n % 2) for n in range(36)]
DRIFT = DriftReport(score=0.0, p_value=1.0, drifted=False, nearest_task=None, kind="none")
MODELS = ("base", "generated", "aligned")


class Scores:
    """Stands for ``evaluate`` and ``prior_of``: each model knows so much of the answers, and speaks so loud."""

    def __init__(self, knows: dict[str, float], loud: dict[str, float]) -> None:
        self.knows, self.loud = knows, loud

    def name(self, adapted: AdaptedModel) -> str:
        [member] = adapted.members
        return member.sha256 if member else "base"

    def evaluate(self, task: Task, examples: list[Example], adapted: AdaptedModel, *_: Any, **__: Any) -> list[Item]:
        name, items = self.name(adapted), []
        for example in examples:
            noise = random.Random(f"{name} {example.id}")
            logs = [-9 + noise.gauss(0, 1) + self.knows[name] * (i == example.answer) + 2 * (i == 0) for i in (0, 1)]
            choices = [
                ChoiceLikelihood(self.loud[name] * log, 1, len(c) + 1) for log, c in zip(logs, LABELS, strict=True)
            ]
            item = ranked(example, [choice.logprob / choice.chars for choice in choices])
            items.append(item.model_copy(update={"choices": tuple(choices)}))
        return items

    def prior(self, adapted: AdaptedModel, *_: Any, **__: Any) -> dict[str, float]:
        by = self.loud[self.name(adapted)]
        return {" yes": -7.5 * by, " no": -9.25 * by}


def chosen(scores: Scores) -> State:
    """Measure the start with models that answer by these scores."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(answers, "evaluate", scores.evaluate)
        patch.setattr(answers, "prior_of", scores.prior)
        patch.setattr(start, "perplexities", lambda *_: [])
        patch.setattr(start, "context_length", lambda _: 2048)
        patch.setattr(start, "part_seconds", lambda *_: 0.0)
        at = bench(Path(folder))
        at.task = Task(name="t", title="T", source="here", load=lambda: EXAMPLES, has_train=False)
        at.splits.reward = at.splits.support = at.splits.test = EXAMPLES
        at.lm.profile = type("Profile", (), {"answer_style": "text"})
        at.lm.encode = lambda text, **_: [0]
        at.carried, at.priors = None, ("none", "choice", "batch")
        at.pack = at.adapted = at.adapter = lambda value: value
        made: dict[str, AdapterRef | str] = {name: adapter(name) for name in MODELS[1:]}
        state: Any = {"adapters": {**made, "reason": ""}, "drift": DRIFT}
        return measure_starts(state, at)


def verdicts(state: State) -> tuple[object, ...]:
    """What was decided, without a number."""
    begun = [state["starts"][name] for name in ("generated", "aligned")]
    told = [(one["comparison"] and one["comparison"].accepted, one["dropped_after"]) for one in begun if one]
    return state["start"], state["base"].answer_rule, state["best"].answer_rule, told


KNOWS = st.fixed_dictionaries({name: st.sampled_from([-0.5, 0.0, 1.0, 2.0, 3.0]) for name in MODELS})
LOUD = st.fixed_dictionaries({name: st.sampled_from([1 / 1024, 1 / 7, 1.0, 3.0, 512.0]) for name in MODELS})


@settings(max_examples=4, deadline=None)
@given(KNOWS, LOUD)
def test_scores_that_are_all_multiplied_change_no_verdict_of_the_start(
    knows: dict[str, float], loud: dict[str, float]
) -> None:
    plain, scaled = (chosen(Scores(knows, by)) for by in (dict.fromkeys(MODELS, 1.0), loud))
    assert verdicts(scaled) == verdicts(plain)
    for one, other in zip(scaled["rules"], plain["rules"], strict=True):
        assert one.base.loss == pytest.approx(other.base.loss, abs=1e-6)


def test_the_start_is_what_knows_most() -> None:
    quiet = dict.fromkeys(MODELS, 1.0)
    assert chosen(Scores({"base": 0.0, "generated": 1.0, "aligned": 6.0}, quiet))["start"] == "aligned"
    assert chosen(Scores({"base": 6.0, "generated": 1.0, "aligned": 0.0}, quiet))["start"] == "base"

"""What measures in place of a model, by a rule, and a run to measure for."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.budget.clock import Clock
from agent.config import RunConfig
from agent.loop.reward import Bar
from agent.loop.state import NO_TIME
from cao.types import AdaptedModel, AdapterRef, Example, Item
from tools.evaluate import HiddenCache

N = 96
QUESTIONS = [Example(id=f"q{i}", question=f"question {i}", choices=("a", "b"), answer=0) for i in range(N)]


class Model:
    """Stands for ``evaluate``: answers by a rule, and remembers what it was asked."""

    def __init__(self, harm: float = 0.0, stops_at: int = 10**9) -> None:
        self.harm, self.stops_at, self.asked = harm, stops_at, 0

    def __call__(self, task: Any, examples: list[Example], *rest: Any, **options: Any) -> list[Item]:
        if self.asked >= self.stops_at:
            raise KeyboardInterrupt
        self.asked += len(examples)
        noise = [random.Random(example.id).gauss(0, 0.1) for example in examples]
        return [
            Item(id=e.id, correct=True, loss=1 + self.harm * (1 + by)) for e, by in zip(examples, noise, strict=True)
        ]


def bench(folder: Path, **config: Any) -> Any:
    return SimpleNamespace(
        config=RunConfig(task="t", **config),
        folder=folder,
        task=SimpleNamespace(name="t"),
        splits=SimpleNamespace(reward=QUESTIONS, test=QUESTIONS[:30]),
        protocol="likelihood",
        lm=SimpleNamespace(sha256="base", dtype="float32"),
        clock=Clock(),
        speed=NO_TIME,
        encoder=None,
        states=HiddenCache(),
        progress=lambda *_: None,
    )


def adapter(sha256: str, path: str = "p") -> AdapterRef:
    return AdapterRef(path=path, sha256=sha256, base_sha256="base", rank=4)


COUNTED = {
    **{"asked": 0, "answered": 0, "saved": 0, "dropped_early": 0, "reused": 0, "checked": 0, "agreed": 0},
    **{"member_answers": 0, "member_answers_saved": 0},
}
PLAIN, BAR = AdaptedModel(), Bar()

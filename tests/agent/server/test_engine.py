"""The model's thread: what fails in it fails one request, and whether it is at work is told."""

import asyncio
from pathlib import Path

import pytest

from agent.handover.model import Model
from agent.handover.settings import Handed
from agent.server import engine as engine_file
from agent.server.engine import Call, Engine, Text, Worn
from agent.server.local import Asked
from agent.server.replies import Head, Written
from agent.server.writing import Piece, Sampling, Writing
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.tasks.base import Task
from cao.types import AdaptedModel, Example, Item
from tests.agent.server.running_site import Served
from tests.conftest import TINY


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return load_language_model(TINY, path=str(tiny_model_folder), dtype="float32", offline=True)


def test_prompts_that_make_no_batch_fail_and_the_others_go_on(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no memory")

    engine, told = Engine(lm, batch=2, queue=8), list[Piece | Exception]()
    engine.start()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(engine_file, "RowBatch", broken)
            engine.submit([Text(Worn(), Writing(lm.encode("the bird"), Sampling(2), told.append))])
            engine.within(lambda: None)
        engine.submit([Text(Worn(), Writing(lm.encode("the bird"), Sampling(2), told.append))])
    finally:
        alive = engine.alive
        engine.stop()
    assert (alive, engine.alive) == (True, False)
    assert [type(one) for one in told] == [RuntimeError, Piece]


def test_health_says_that_the_models_thread_has_ended(it: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert it.send("/health")[0] == 200
    monkeypatch.setattr(Engine, "alive", property(lambda self: False))
    status, told, _ = it.send("/health")
    assert (status, told["status"]) == (503, "the model answers no more; start the server again")


def test_what_nobody_waits_for_any_more_is_not_computed(lm: LanguageModel) -> None:
    made, pieces = list[str](), list[Piece | Exception]()
    jobs = [
        Call(lambda: made.append("left")),
        Text(Worn(), Writing(lm.encode("the bird"), Sampling(2), pieces.append)),
        Call(lambda: made.append("kept")),
    ]
    engine = Engine(lm, batch=2, queue=8)
    engine.submit(jobs)
    top = Head("completion", "text_completion", "base", 0)
    Asked(top, jobs[:2], [Written(), Written()], 0, asyncio.Queue()).leave()
    engine.start()
    engine.stop()
    assert (made, pieces) == (["kept"], [])


def test_several_adapters_together_continue_a_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answered(task: Task, examples: list[Example], *_: object, **__: object) -> list[Item]:
        asked.extend(task.ask(example) for example in examples)
        return [Item(id="prompt", correct=False, loss=0.0, text="so")]

    monkeypatch.setattr("agent.handover.model.evaluate", answered)
    handed = Handed(run_id="", task="own", base_model="m", base_sha256="", protocol="generate", members=(None,))
    model = Model(handed, Path(), AdaptedModel(members=(None,)), None, None)  # type: ignore[arg-type]
    assert model.generate(" user: Why?\nassistant:\n") == "so"
    assert asked == [" user: Why?\nassistant:\n"]

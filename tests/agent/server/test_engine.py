"""The model's thread: what fails in it fails one request, and whether it is at work is told."""

from pathlib import Path

import pytest

from agent.server import engine as engine_file
from agent.server.engine import Engine, Text, Worn
from agent.server.writing import Piece, Sampling, Writing
from cao.model.loading import load_language_model
from tests.agent.server.running_site import Served
from tests.conftest import TINY


def test_prompts_that_make_no_batch_fail_and_the_others_go_on(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no memory")

    lm = load_language_model(TINY, path=str(tiny_model_folder), dtype="float32", offline=True)
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

"""How far a table is, and how long it will take yet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Run, WorkerDiedError
from cao.progress import silent
from cao.types import Example
from eval.baselines.baseline import Budget
from eval.baselines.objective import Objective
from eval.paper.cells import reckoning as reckoning_module
from eval.paper.cells import work as work_module
from eval.paper.cells.kept import Key
from eval.paper.cells.reckoning import Reckoning
from eval.paper.cells.work import PREPARED, Eta, Found, Job, Outcome, complete, look
from tools.generate_lora.checkpoints import CheckpointPreset

QUESTION = Example(id="one", question="Which is right?", choices=("this", "that"), answer=0)


def jobs(*names: str) -> dict[Job, float]:
    return {Job(Key(name, "arc_easy", 0), about={"row": name}): 10.0 for name in names}


def test_a_guess_follows_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    asked = jobs("base", "maml", "abmll", "serl")
    eta = Eta(Found(jobs=({}, asked)), workers=2)
    assert "4 are to be made" in capsys.readouterr().err
    assert eta.left == 20.0
    first, second, *_ = asked
    eta.finished(first, 10.0, Outcome(seconds=30.0))
    assert eta.left == 45.0  # three of ten seconds each, three times as slow, two at a time
    assert "[1/4 done] base on arc_easy, seed 0 took 30 s; about 45 s left" in capsys.readouterr().err
    eta.finished(second, 10.0, Outcome(reason="trl is not installed", seconds=0.0))
    assert "maml on arc_easy, seed 0 n/a: trl is not installed" in capsys.readouterr().err
    assert eta.left == 30.0


def test_what_learns_from_the_sources_is_prepared_once_and_reckoned() -> None:
    assert {"seal", "maml", "serl"} <= set(PREPARED)
    assert not {"base", "mean", "nearest", "labelled_lora"} & set(PREPARED)
    budget = Budget(preparing=10_000, adapting=500, rates=(1e-4, 1e-3))
    equal, one = reckoned(budget), reckoned(budget.model_copy(update={"rates": (1e-4,)}))
    assert equal("seal") == one("seal") == equal("union_train") > 0
    assert equal("serl") == equal("no_meta_train") > one("serl") == 0


def test_papers_own_settings_are_reckoned_by_what_the_methods_read_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = 125 * 32
    monkeypatch.setattr(reckoning_module, "tokens_of_a_question", lambda *_: 80.0)
    papers, as_long = reckoned(None), reckoned(Budget(preparing=80 * schedule, adapting=0, rates=(1e-4,)))
    assert papers("union_train") == as_long("union_train")
    assert papers("maml") == pytest.approx(25 * papers("union_train"))
    assert papers("serl") == papers("no_meta_train") == 0  # no rate is searched for
    monkeypatch.setattr(Objective, "rows", lambda *_: ())
    monkeypatch.setattr(reckoning_module, "mean_tokens", lambda _: 80.0)  # of the target's questions, too
    cell = Reckoning(desk_of(None)).cell
    trained = cell(Key("no_meta_train", "arc_easy", 0)) - cell(Key("base", "arc_easy", 0))
    assert trained == pytest.approx(papers("union_train"))
    assert cell(Key("serl", "arc_easy", 0)) > 8 * trained  # eight times as many answers, and it writes them


def test_checkpoints_cost_what_their_questions_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reckoning_module, "tokens_of_a_question", lambda *_: 80.0)
    preset = SimpleNamespace(checkpoints=CheckpointPreset(warm_steps=30, kept_steps=20, batch=4))
    desk: Any = SimpleNamespace(
        lm=SimpleNamespace(compute=None),
        workshop=SimpleNamespace(consolidation=SimpleNamespace(preset=preset)),
        ground=lambda _: None,
        budget=lambda _: Budget(preparing=50 * 4 * 80, adapting=0),
        whole_budget=lambda _: Budget(preparing=0, adapting=0),
    )
    reckoning = Reckoning(desk)
    assert reckoning.checkpoints(Key("mean", "arc_easy", 0)) > 0
    assert reckoning.checkpoints(Key("mean", "arc_easy", 0)) == reckoning.preparation(Key("union_train", "piqa", 0))


def reckoned(budget: Budget | None) -> Callable[[str], float]:
    """Seconds of a row's preparation."""
    return lambda row: Reckoning(desk_of(budget)).preparation(Key(row, "arc_easy", 0))


def desk_of(budget: Budget | None) -> Any:
    """A desk with a question of each part to answer; two sources of 25,000 questions each serve its target."""
    ground = SimpleNamespace(
        variant=SimpleNamespace(name="full", sources=("piqa", "boolq")), examples=lambda _: [None] * 25_000
    )
    return SimpleNamespace(
        lm=SimpleNamespace(compute=None, profile=None),
        budget=lambda _: budget,
        ground=lambda _: ground,
        shared=SimpleNamespace(
            options=SimpleNamespace(protocol="likelihood"), measured=lambda _: [[QUESTION], [QUESTION]]
        ),
    )


def test_a_plan_counts_what_is_to_be_done_by_row() -> None:
    prepared = {Job(Key("maml", "arc_easy", 0)): 10.0, Job(Key("nearest", "arc_easy", 0), "piqa"): 5.0}
    found = Found(jobs=(prepared, jobs("maml", "base")))
    plan = {"preparation of maml": (1, 10.0), "checkpoints of sources": (1, 5.0), "maml": (1, 10.0), "base": (1, 10.0)}
    assert found.plan() == plan


def test_a_defect_in_planning_a_cell_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def planned(_: object, key: Key) -> dict[str, object]:
        if key.task == "piqa":
            raise ZeroDivisionError("by purpose")
        return {"task": key.task}

    def reckoned(_: object, key: Key) -> float:
        if key.task == "boolq":
            raise KeyError("seconds")
        return 1.0

    monkeypatch.setattr(work_module, "depends_on", planned)
    monkeypatch.setattr(Reckoning, "cell", reckoned)
    shared = SimpleNamespace(work=tmp_path, options=SimpleNamespace(protocol="likelihood"), command="measure")
    desk: Any = SimpleNamespace(shared=shared, lm=SimpleNamespace(compute=None))
    found = look(desk, [Key("base", task, 0) for task in ("piqa", "boolq", "arc_easy")])
    assert [job.key.task for job in found.jobs[1]] == ["arc_easy"]
    for task, defect in (("piqa", "ZeroDivisionError: by purpose"), ("boolq", "KeyError: 'seconds'")):
        why = found.absent[Key("base", task, 0)]
        assert why.startswith(f"crashed: {defect}")
        assert why.endswith(f"alone: measure --methods base --tasks {task} --seeds 0 --out runs/again")


def test_workers_that_die_at_a_cell_cost_that_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead, prepared = Key("base", "piqa", 0), Key("maml", "arc_easy", 1)

    @contextmanager
    def opened(*_: object, **__: object) -> Iterator[Run[Job, Outcome]]:
        def run(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
            yield from ((job, Outcome(seconds=1.0)) for job in jobs if job.key not in (dead, prepared))
            if died := [job for job in jobs if job.key in (dead, prepared)]:
                raise WorkerDiedError(died)

        yield run

    monkeypatch.setattr(work_module, "open_engine", opened)
    options = SimpleNamespace(protocol="likelihood", workers=2, offline=True)
    desk: Any = SimpleNamespace(shared=SimpleNamespace(work=tmp_path, options=options, command="measure"))
    served = (Key("maml", "arc_easy", 0), prepared)
    first = {Job(prepared, serves=served): 1.0}
    second = {Job(key): 1.0 for key in (*served, dead, Key("base", "boolq", 0))}
    found = complete(desk, Found(jobs=(first, second)), EngineSettings(), silent)
    assert set(found.absent) == {*served, dead}
    assert "[5/5 done]" in capsys.readouterr().err.splitlines()[-1]  # what fell with a preparation is counted
    assert found.absent[dead] == (
        "crashed: 4 workers died at it (was memory short?); alone: measure --methods base --tasks piqa --seeds 0"
        " --out runs/again"
    )

"""A user's own files among the sources of a consolidation."""

import json
import random
from pathlib import Path

import pytest

from agent.train.generator.own import added, named, parted
from agent.train.generator.presets import PRESETS
from agent.train.generator.settings import Settings
from cao.errors import InputError
from cao.tasks import get_task
from cao.tasks.splits import training_examples
from cao.types import Example
from tests.agent.tiny_pretrained import MODEL
from tests.agent.train.generator.finished import call
from tests.agent.train.generator.tiny_consolidation import command


def birds(path: Path, count: int = 40, **more: object) -> Path:
    words = random.Random(0)
    rows = [
        {"question": f"Does bird {n} {words.choice(['fly', 'swim'])}?", "choices": ["no", "yes"], "answer": n % 2}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps({**row, **more}) + "\n" for row in rows))
    return path


def settings(*sources: str, **more: object) -> Settings:
    return Settings.model_validate(
        {"model": MODEL, "preset": "embedded", "offline": True, "sources": list(sources), **more}
    )


def test_a_file_is_a_source_under_its_name_beside_the_presets(tmp_path: Path) -> None:
    file = str(birds(tmp_path / "birds.jsonl"))
    both = settings("preset", file)
    assert both.resolved().sources == (*PRESETS["embedded"].sources, "birds")
    assert both.files == {"birds": file}
    assert settings("sciq").resolved().sources == ("sciq",)
    assert settings("sciq").files == {}
    assert "files" not in settings("sciq").claim()
    alone = settings(file)
    before = alone.claim()["files"]
    birds(tmp_path / "birds.jsonl", 41)
    assert alone.claim()["files"] != before


def test_what_cannot_be_a_source_is_refused(tmp_path: Path) -> None:
    for name, more, told in (
        ("free", {"choices": None, "answer": "no"}, "no choices"),
        ("unknown", {"answer": None}, "no answers"),
    ):
        path = birds(tmp_path / f"{name}.jsonl", **more)  # type: ignore[arg-type]
        if more["answer"] == "no":
            path.write_text("".join(json.dumps({"question": f"Q{n}?", "answer": "no"}) + "\n" for n in range(9)))
        with pytest.raises(InputError, match=told):
            named([str(path)], ())
    (tmp_path / "other").mkdir()
    one, other = birds(tmp_path / "birds.jsonl"), birds(tmp_path / "other" / "birds.jsonl")
    with pytest.raises(InputError, match="tasks of one name; rename a file"):
        named([str(one), str(other)], ())


def test_a_file_with_a_reported_tasks_questions_is_refused_and_a_few_are_left_out(tmp_path: Path) -> None:
    theirs = [{"question": e.prompt, "choices": list(e.choices), "answer": e.answer} for e in get_task("boolq").load()]
    own = [json.loads(line) for line in birds(tmp_path / "birds.jsonl").read_text().splitlines()]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(json.dumps(row) + "\n" for row in [*own, *theirs[:2]]))
    found = added({"mixed": str(mixed)}, 5000)["mixed"]
    assert (found.questions, found.left_out, found.trained, found.measured) == (42, 2, 36, 4)
    mixed.write_text("".join(json.dumps(row) + "\n" for row in [*own, *theirs[:5]]))
    with pytest.raises(InputError, match="mixed cannot be a source: 5 of its 45 questions are boolq's"):
        added({"mixed": str(mixed)}, 5000)


@pytest.mark.slow
def test_a_consolidation_on_a_file_serves_a_run_that_knows_what_it_learnt(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = birds(tmp_path / "birds.jsonl", 80)
    more = ("--sources", f"arc_easy,{file}", "--set", 'leave_out=["birds"]')
    argv = [part for part in command(tiny_model_folder, tmp_path / "made", *more)]
    dropped = argv.index('sources=["arc_easy","openbookqa"]')
    argv = argv[: dropped - 1] + argv[dropped + 1 :]
    planned = call([*argv, "--dry-run"])
    assert "80 questions with choices, 36 to train on, 4 only to measure on, 40 left out" in planned.out, planned.err
    assert call(argv).code == 0
    (folder,) = (tmp_path / "made").iterdir()
    from agent.run import main

    asked = ["--task", str(file), "--model", MODEL, "--model-path", str(tiny_model_folder), "--policy", "random"]
    asked += [
        "--pretrained",
        str(folder),
        "--offline",
        "--max-attempts",
        "1",
        "--out",
        str(tmp_path / "runs"),
        "--json",
    ]
    for variant, name, learnt in (("full", True, True), ("without-birds", False, False)):
        capsys.readouterr()
        assert main([*asked, "--set", f"variant={variant}"]) == 0
        made = json.loads(capsys.readouterr().out)["adapters"]
        assert (made["saw_task"], bool(made["saw_questions"])) == (name, learnt)


def test_what_is_measured_on_has_no_twin_among_what_is_trained_on() -> None:
    """WinoGrande's and HellaSwag's questions come in groups; where each stands alone, every tenth is held back."""
    grouped = [Example(id=f"{n}", question=f"q{n}", labelled=False, group=f"g{n // 3}") for n in range(90)]
    trained, measured = parted(grouped)
    assert not {one.group for one in trained} & {one.group for one in measured}
    assert [one.id for one in measured] == ["0", "1", "2", "30", "31", "32", "60", "61", "62"]
    alone = [Example(id=f"{n}", question=f"q{n}", labelled=False) for n in range(30)]
    assert [one.id for one in parted(alone)[1]] == ["0", "10", "20"]
    assert len(parted(alone)[0]) == 27
    real = training_examples(get_task("winogrande"))[:400]
    trained, measured = parted(real)
    assert measured
    assert not {one.group for one in trained} & {one.group for one in measured}

"""The list of questions that trained parts learnt from: counted by letters and digits, and refused where changed."""

from pathlib import Path

import pytest

from agent.record.schema import Adapters
from cao.errors import InputError
from cao.model.profiles import MODELS
from tools.pretrained import Artefact, Shelf, Variant, index_of, read_index
from tools.source_questions import FILE, read_questions, shared, write_questions

NOTHING = Artefact(path="none", sha256="0")


def variant(*sources: str) -> Variant:
    return Variant(name="full", sources=sources, generator=NOTHING)


def shelf(folder: Path) -> tuple[Shelf, Path]:
    sha256 = write_questions(folder / FILE, {"birds": ["Does it fly?", "Does it swim?"], "fish": ["Has it fins?"]})
    return Shelf(name="m", variants=(), questions=Artefact(path=FILE, sha256=sha256)), folder / "index.json"


def test_questions_are_counted_whatever_their_case_and_signs(tmp_path: Path) -> None:
    kept, index = shelf(tmp_path)
    prompts = ["DOES IT FLY", "does it swim ?!", "Has it fins?", "Does it walk?", "…"]
    assert shared(prompts, kept, variant("birds"), index) == 2
    assert shared(prompts, kept, variant("birds", "fish"), index) == 3
    assert shared(prompts, kept, variant("birds", "mammals"), index) is None  # not all of its sources are known
    assert shared(prompts, kept.model_copy(update={"questions": None}), variant("birds"), index) is None


def test_another_list_than_the_index_names_is_refused(tmp_path: Path) -> None:
    kept, index = shelf(tmp_path)
    write_questions(tmp_path / FILE, {"birds": []})
    with pytest.raises(InputError, match="the index lists"):
        shared(["x"], kept, variant("birds"), index)


def test_the_shipped_list_has_every_source_of_every_variant() -> None:
    index = index_of()
    listed = read_index(index)
    assert listed is not None
    for kept in listed.models.values():
        assert kept.name in MODELS
        assert kept.questions is not None
        known = read_questions(index.parent / kept.questions.path, kept.questions.sha256)
        assert {source for each in kept.variants for source in each.sources} <= set(known)
        assert sum(map(len, known.values())) > 20_000


@pytest.mark.parametrize(
    ("by_name", "questions", "told"),
    [
        (None, None, ""),
        (False, None, "by name never trained on this task"),
        (True, None, "trained on a task of this name"),
        (False, 0, "never trained on any of these questions"),
        (False, 7, "trained on 7 of these questions"),
        (True, 7, "trained on this task too, and on 7 of these questions"),
        (True, 0, "trained on this task, though on none of these questions in these words"),
    ],
)
def test_the_claim_is_by_questions_where_they_are_known(by_name: bool | None, questions: int | None, told: str) -> None:
    assert Adapters(saw_task=by_name, saw_questions=questions).seen == told

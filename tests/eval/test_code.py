"""A result depends on what code computes, and not on how it is commented."""

import pytest

from agent.loop.answers import rules_of
from cao.strategies import FAMILIES
from cao.tasks import get_task
from eval import code
from eval.code import code_of, grader_code, modules_of
from eval.pages.import_graph import imports
from eval.paper.cells.kept import JUDGES
from eval.paper.rows import ALL, FAMILY, ROWS, STAGE_1, STAGES_1_2

PLAIN = "from b import g\n\ndef f(x):\n    return g(x) + 1\n"
SAID = '"""A module."""\nfrom b import g  # why\n\ndef f(x):\n    """Say what."""\n    return g(x) + 1\n'


def version(monkeypatch: pytest.MonkeyPatch, **texts: str) -> str:
    code_of.cache_clear()
    code.meaning.cache_clear()
    monkeypatch.setattr(code, "texts", lambda: texts)
    return code_of("a")


@pytest.fixture(autouse=True)
def _forget() -> None:
    code_of.cache_clear()
    code.meaning.cache_clear()
    grader_code.cache_clear()


def test_words_do_not_count_and_code_does(monkeypatch: pytest.MonkeyPatch) -> None:
    first = version(monkeypatch, a=PLAIN, b="g = abs\n")
    assert version(monkeypatch, a=SAID, b="# absolute\ng = abs\n") == first
    assert version(monkeypatch, a=PLAIN.replace("1", "2"), b="g = abs\n") != first


def test_what_is_imported_counts_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    first = version(monkeypatch, a=PLAIN, b="g = abs\n")
    assert version(monkeypatch, a=PLAIN, b="g = round\n") != first
    assert version(monkeypatch, a=PLAIN, b="g = abs\n", c="h = 1\n") == first


def test_the_version_of_a_library_counts_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, computing = {"a": PLAIN, "b": "g = abs\n"}, {"a": PLAIN, "b": "def g(x):\n    import torch\n"}
    before = [version(monkeypatch, **texts) for texts in (plain, computing)]
    monkeypatch.setattr(code, "version", lambda name: f"another {name}")
    after = [version(monkeypatch, **texts) for texts in (plain, computing)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_row_depends_on_its_own_stage() -> None:
    judges, stage_1 = code_of("tools.evaluate"), code_of("tools.evaluate", "tools.generate_lora")
    assert judges != stage_1
    assert code_of("tools.evaluate") == judges


def test_what_one_baseline_made_survives_a_change_of_another_and_of_the_loop() -> None:
    needed = modules_of(*ROWS["union_train"].code)
    assert {"eval.baselines.union_train", "eval.baselines.descent"} <= needed
    assert not {"eval.baselines.registry", "eval.baselines.maml", "agent.loop.nodes", "policies.local"} & needed


def test_what_acts_counts_though_it_is_only_named() -> None:
    """Families name their kernels, and the stages' nodes are called by what makes the cells."""
    for name, family in FAMILIES.items():
        kernel = family.kernel.split(":")[0]
        for row in (f"{FAMILY}{name}", ALL):
            assert kernel in modules_of(*ROWS[row].code), (row, kernel)
    for row in (STAGE_1, STAGES_1_2, ALL, f"{FAMILY}TTL"):
        assert {"agent.loop.nodes", "agent.loop.start"} <= modules_of(*ROWS[row].code), row


@pytest.mark.parametrize("row", ROWS)
def test_every_row_depends_on_what_chooses_its_answer_rule(row: str) -> None:
    assert rules_of.__module__ in modules_of(*JUDGES, *ROWS[row].code)


@pytest.mark.parametrize("name", ["gsm8k", "math", "arc_easy"])
def test_how_written_answers_are_graded_counts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module, plain = get_task(name).grade.__module__, code.texts()
    needed = {module, "cao.tasks.graders", "cao.tasks.numerals"} & (
        modules_of(*imports(plain[module], plain)) | {module}
    )
    assert needed
    first = grader_code(module)
    for each in needed:
        code_of.cache_clear()
        code.meaning.cache_clear()
        grader_code.cache_clear()
        monkeypatch.setattr(code, "texts", lambda each=each: plain | {each: f"{plain[each]}\nother = 1\n"})
        assert grader_code(module) != first, each


def test_the_grader_that_a_baseline_votes_by_counts() -> None:
    assert "cao.tasks.graders" in modules_of(*ROWS["serl"].code)

"""The table of labels on a tiny random model, from a file of questions to the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from cao.model.adapters import LoraWeights
from cao.tasks import get_task
from cao.tasks.splits import split
from eval.policies import labelled_lora
from eval.policies.labels import halves
from eval.policies.labels_results import BASE, BOTH, CALIBRATE, LORA, ROWS, START, TESTED, VARIANTS
from eval.tables import main
from tests.agent import tiny_pretrained
from tests.agent.killing import killed
from tests.agent.run.generated.generated_runs import RIGHT
from tests.agent.run.tiny_runs import GOLD, WRONG
from tests.agent.train.policy.tiny_policy_training import call

pytestmark = pytest.mark.slow

REWARD, LIMIT = 48, 12
Row = dict[str, Any]


@pytest.fixture(scope="module")
def shelf(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator whose adapter makes the right choice likelier."""
    lm = tiny_pretrained.load(tiny_model_folder)
    good = tiny_pretrained.learned(lm, RIGHT)
    return tiny_pretrained.shelve(tmp_path_factory.mktemp("shelf"), lm, {"full": good}, {"full": ["sciq"]}).parent


def rows() -> list[Row]:
    """Questions whose answer is worded like themselves; the generator's adapter knows them."""
    return [
        {
            "question": f"the bird can fly {n} times. what can the bird do?",
            "choices": [WRONG, GOLD] if n % 2 else [GOLD, WRONG],
            "answer": n % 2,
        }
        for n in range(110)
    ]


def write(folder: Path, questions: list[Row]) -> Path:
    folder.mkdir()
    path = folder / "sums.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    return path


def arguments(model: Path, shelf: Path, questions: Path, out: Path, seeds: str = "0") -> list[str]:
    return [
        *("--table", "labels", "--tasks", str(questions), "--seeds", seeds, "--limit", str(LIMIT), "--offline"),
        *("--reward", str(REWARD), "--out", str(out), "--work", str(out / "work"), "--json"),
        *("--set", f"model={tiny_pretrained.MODEL}"),
        *("--set", f"model_path={model}", "--set", f"pretrained={shelf}", "--set", "dtype=float32"),
    ]


@pytest.fixture(scope="module")
def measured(tiny_model_folder: Path, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Row, Path]:
    folder = tmp_path_factory.mktemp("labels")
    code, out, err = call(main, arguments(tiny_model_folder, shelf, write(folder / "a", rows()), folder / "out"))
    assert code == 0, err
    return json.loads(out), folder / "out"


def test_the_table_and_its_page(measured: tuple[Row, Path]) -> None:
    found, out = measured
    known = found["situations"]["sums-0"]
    assert (known["fit"], known["judge"], known["start"]) == (24, 24, "generated")
    assert set(found["cells"]) == set(ROWS)
    assert found["control"] == min(VARIANTS, key=lambda row: found["cells"][row]["sums-0"]["judged"]["loss"])
    for row in ROWS:
        cell = found["cells"][row]["sums-0"]
        assert cell["judged"]["n"] == 24
        read = row in (*TESTED, found["control"])
        assert (cell["test"] is not None) == read
        assert not read or cell["test"]["n"] == LIMIT
    whole, page = json.loads((out / "labels.json").read_text()), (out / "labels.md").read_text()
    assert {key: whole[key] for key in found} == found
    change = whole["judged"][LORA[BASE]]["against_base"]["loss"]["mean"]
    cells = [found["cells"][row]["sums-0"]["judged"]["loss"] for row in (LORA[BASE], BASE)]
    assert change == pytest.approx(cells[0] - cells[1])
    assert f"The half to judge chose **{found['control']}**" in page
    assert all(f"| {row} |" in page for row in ROWS)
    assert "\n    python -m eval.tables --table labels" in page


def test_no_label_of_the_half_to_judge_or_of_the_test_part_reaches_what_is_fitted(
    measured: tuple[Row, Path], tiny_model_folder: Path, shelf: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", rows())
    parts = split(get_task(str(path)), support=32, reward=REWARD, test=LIMIT, seed=0)
    unseen = {example.question for example in (*halves(parts.reward)[1], *parts.test)}
    other = [{**row, "answer": 1 - row["answer"]} if row["question"] in unseen else row for row in rows()]
    assert sum(old != new for old, new in zip(rows(), other, strict=True)) == REWARD // 2 + LIMIT
    code, out, err = call(main, arguments(tiny_model_folder, shelf, write(tmp_path / "b", other), tmp_path / "out"))
    assert code == 0, err
    (mine, _), theirs = measured, json.loads(out)
    for side in (BASE, START):
        one, two = (found["situations"]["sums-0"]["trainings"][side] for found in (mine, theirs))
        assert {**one, "seconds": 0} == {**two, "seconds": 0}  # the weights' hashes are among it
        for row in (CALIBRATE[side], BOTH[side]):
            assert mine["cells"][row]["sums-0"]["rule"] == theirs["cells"][row]["sums-0"]["rule"]
    assert mine["situations"]["sums-0"]["start"] == theirs["situations"]["sums-0"]["start"]
    assert mine["cells"][BASE]["sums-0"]["judged"] != theirs["cells"][BASE]["sums-0"]["judged"]


def test_a_kill_costs_one_training(
    tiny_model_folder: Path, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = arguments(tiny_model_folder, shelf, write(tmp_path / "a", rows()), tmp_path / "out", seeds="0,1")
    killed(lambda: len(list((tmp_path / "out").glob("work/*/labels/*.json"))) >= 2, main, argv)
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("work/*/labels/*.json")}
    calls, train = list[object](), labelled_lora.train

    def counted(*given: Any, **options: Any) -> list[LoraWeights]:
        calls.append(given)
        return train(*given, **options)

    monkeypatch.setattr(labelled_lora, "train", counted)
    code, out, err = call(main, argv)
    assert code == 0, err
    assert len(calls) == 4 * (4 - len(before))  # three rates and the whole half, for each training that was not kept
    assert all(path.read_bytes() == content for path, content in before.items())
    calls.clear()
    monkeypatch.setattr("cao.inference.scoring.token_logprobs", None)
    assert call(main, argv)[:2] == (0, out)  # nothing is trained or asked again
    assert calls == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--reward", "12"], "greater than or equal to 48"),
        (["--reward", "96"], "110 different questions"),
    ],
)
def test_what_is_refused(more: list[str], told: str, tiny_model_folder: Path, shelf: Path, tmp_path: Path) -> None:
    argv = arguments(tiny_model_folder, shelf, write(tmp_path / "a", rows()), tmp_path / "out")
    code, out, err = call(main, [*argv, *more])
    assert (code, out) == (2, "")
    assert told in err


def test_questions_without_choices_are_refused(tiny_model_folder: Path, shelf: Path, tmp_path: Path) -> None:
    free = [{"question": row["question"], "answer": str(place)} for place, row in enumerate(rows())]
    argv = arguments(tiny_model_folder, shelf, write(tmp_path / "a", free), tmp_path / "out")
    code, _, err = call(main, argv)
    assert code == 2
    assert "needs questions with choices" in err

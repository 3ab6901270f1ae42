"""``python -m eval.tables --table 3|4|figures|cost`` on the tiny model and its shelf."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from agent import consolidate
from cao.errors import InputError
from cao.model.language_model import LanguageModel
from eval import tables
from eval.paper.adapters import measure, table3
from eval.paper.adapters.measure import opened
from eval.paper.adapters.pages.write import write_page
from eval.paper.adapters.results import FiguresResult, Table3Result, Table4Result
from eval.paper.adapters.stock import Stock
from tests.agent import tiny_pretrained
from tests.agent.train.generator.tiny_consolidation import FOLDER
from tests.agent.train.generator.tiny_consolidation import command as consolidation

TASKS = ("openbookqa", "social_iqa")


@dataclass
class Tables:
    """Calls the command on the tiny model with one folder."""

    model: Path
    shelf: Path
    out: Path

    def call(self, table: str, *more: str) -> int:
        given = ["--table", table, "--model", tiny_pretrained.MODEL, "--set", f"model_path={self.model}", "--offline"]
        given += ["--pretrained", str(self.shelf), "--out", str(self.out), "--tasks", ",".join(TASKS)]
        return tables.main([*given, "--seeds", "0", "--batches", "2", *more])

    def result(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / f"{name}.json").read_text())
        return found


@pytest.fixture(scope="module")
def made(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    lm = tiny_pretrained.load(tiny_model_folder)
    layout = tiny_pretrained.layout_of(lm)
    centre = 0.05 * torch.randn(layout.layers, layout.length, generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("adapters")
    tiny_pretrained.shelve(folder / "shelf", lm, {"full": centre}, {"full": ["arc_easy"]})
    return Tables(tiny_model_folder, folder / "shelf", folder / "out")


@pytest.fixture(scope="module")
def gradients(made: Tables) -> dict[str, Any]:
    assert made.call("3") == 0
    return made.result("table3")


def test_gradients_are_compared_where_there_are_adapters(made: Tables, gradients: dict[str, Any]) -> None:
    rows = gradients["rows"]
    for kind in ("start", "centre", "generated", "aligned"):
        assert rows[kind]["tasks"] == list(TASKS)
        matrix = rows[kind]["matrix"]
        assert [matrix[i][i] for i in (0, 1)] == [1.0, 1.0]
        assert rows[kind]["between"]["mean"] == matrix[0][1]
        assert -1 <= rows[kind]["within"] <= 1
    assert rows["generated"]["paper"]["mean"] == 0.749
    assert (made.out / "figure2.svg").is_file()


def test_what_is_not_at_hand_is_absent_with_the_command_that_provides_it(gradients: dict[str, Any]) -> None:
    row = gradients["rows"]["maml"]
    assert (row["tasks"], row["between"]) == ([], None)
    assert "sources of" in row["absent"]["social_iqa"]
    (verdict,) = gradients["verdicts"]
    assert (verdict["verdict"], verdict["figure"]) == ("cannot be tested here", "")
    assert "are not known" in verdict["reason"]


def test_settings_of_the_profile_are_those_of_the_model_and_of_its_cells(
    made: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles, cells = [], set()

    def stopped(lm: LanguageModel, *given: Any) -> None:
        styles.append(lm.profile.answer_style)
        cells.add(opened(lm, *given).kept.fingerprint())
        raise InputError("enough")

    monkeypatch.setattr(measure, "opened", stopped)
    for style in ("letter", "text"):
        assert made.call("4", "--set", f"profile.answer_style={style}") == 2
    assert styles == ["letter", "text"]
    assert len(cells) == 2


def test_what_is_measured_is_not_measured_again(
    made: Tables, gradients: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(table3, "gradient", never)
    assert made.call("3") == 0
    assert made.result("table3")["rows"] == gradients["rows"]


def test_a_kill_costs_one_cell(made: Tables, gradients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    again = Tables(made.model, made.shelf, made.out.parent / "killed")
    plain, asked = table3.gradient, list[int]()

    def counted(*given: Any) -> Any:
        asked.append(1)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return plain(*given)

    monkeypatch.setattr(table3, "gradient", counted)
    assert again.call("3") == 130
    assert again.call("3") == 0
    assert len(asked) == 4 * len(TASKS) * 2 + 1  # kinds, tasks, batches; the killed one twice
    assert again.result("table3")["rows"] == gradients["rows"]


def test_a_defect_in_one_kind_of_adapter_leaves_the_others_and_names_its_command(
    made: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Tables(made.model, made.shelf, made.out.parent / "broken")
    plain = Stock.make

    def broken(self: Stock, kind: str, task: str, seed: int) -> Any:
        if kind == "generated":
            raise ZeroDivisionError("by purpose")
        return plain(self, kind, task, seed)

    monkeypatch.setattr(Stock, "make", broken)
    assert again.call("4") == 0
    rows = again.result("table4")["rows"]
    assert rows["centre"]["tasks"] == list(TASKS)
    absent = rows["generated"]["absent"]["openbookqa"]
    assert absent.startswith("crashed: ZeroDivisionError: by purpose (test_measure.py:")
    assert absent.endswith("--tasks openbookqa --out runs/again")


def test_sizes_are_those_of_the_adapters(made: Tables) -> None:
    assert made.call("4") == 0
    rows = made.result("table4")["rows"]
    assert rows["aligned_shared"]["weights"] <= rows["aligned"]["weights"]
    for kind in ("centre", "generated", "aligned", "aligned_shared"):
        row = rows[kind]
        assert row["tasks"] == list(TASKS)
        assert 0 <= row["sparsity"]["absolute"]["mean"] <= 1
        assert 0 < row["spread"]["mean"] <= 1
        assert row["l2"]["mean"] <= row["l1"]["mean"]
    assert rows["checkpoint"]["absent"].keys() == set(TASKS)
    assert rows["aligned"]["paper"]["sparsity"] == 10.01


def test_figures_have_adapters_and_latents(made: Tables) -> None:
    assert made.call("figures") == 0
    result = made.result("figures")
    assert result["similarities"].keys() == {"generated", "aligned", "latent"}
    assert result["layer"][1] == 2
    assert all(len(norms) == 2 for norms in result["signature"].values())
    for name in ("figure3", "figure4", "figure5-generated", "figure5-aligned", "figure5-latent"):
        assert "<svg" in (made.out / f"{name}.svg").read_text()


def test_figures_are_of_one_generator_where_there_are_several(made: Tables) -> None:
    lm = tiny_pretrained.load(made.model)
    layout = tiny_pretrained.layout_of(lm)
    draws = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    centres = [0.05 * torch.randn(layout.layers, layout.length, generator=draw) for draw in draws]
    shelf = made.out.parent / "two"
    named = dict(zip(("full", "without-social_iqa"), centres, strict=True))
    tiny_pretrained.shelve(
        shelf, lm, named, {"full": ["social_iqa", "openbookqa"], "without-social_iqa": ["openbookqa"]}
    )
    two = Tables(made.model, shelf, made.out.parent / "two-out")
    assert two.call("figures") == 0
    result = two.result("figures")
    variants = json.loads((shelf / "index.json").read_text())["models"][lm.sha256]["variants"]
    assert result["generators"] == {"full": variants[0]["generator"]["sha256"]}
    assert result["seen"] == list(TASKS)


def test_a_task_that_is_not_at_hand_is_told_and_the_others_are_drawn(made: Tables) -> None:
    again = Tables(made.model, made.shelf, made.out.parent / "lacking")
    assert again.call("figures", "--tasks", ",".join((*TASKS, "jama"))) == 0
    result = again.result("figures")
    assert list(result["missing"]) == ["jama"]
    assert "jama_raw.json" in result["missing"]["jama"]
    assert result["similarities"]["generated"]["tasks"] == list(TASKS)
    assert "n/a: jama: " in (again.out / "figures.md").read_text()


def test_a_consolidations_own_parts_serve_every_table(made: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []

    def stopped(*given: Any) -> None:
        folders.append(opened(*given).folder)
        raise InputError("enough")

    monkeypatch.setattr(measure, "opened", stopped)
    assert made.call("4", "--consolidation", str(made.out.parent / "mine")) == 2
    assert folders == [str(made.out.parent / "mine")]


def test_a_users_file_is_refused_before_a_model_is_loaded(
    made: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.jsonl"
    rows = [{"question": f"Is {n} odd?", "choices": ["yes", "no"], "answer": 1 - n % 2} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert made.call("figures", "--tasks", str(path)) == 2
    assert "compares methods on known tasks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind"), [("table3", Table3Result), ("table4", Table4Result), ("figures", FiguresResult)]
)
def test_pages_come_out_of_their_figures(made: Tables, tmp_path: Path, name: str, kind: type[Any]) -> None:
    if not (made.out / f"{name}.json").exists():
        assert made.call(name.removeprefix("table")) == 0
    write_page(kind.model_validate_json((made.out / f"{name}.json").read_bytes()), tmp_path)
    for written in tmp_path.iterdir():
        assert written.read_bytes() == (made.out / written.name).read_bytes(), written.name


def test_a_model_that_nothing_was_trained_for_has_rows_without_a_generator(made: Tables, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    bare = Tables(made.model, tmp_path / "shelf", tmp_path / "out")
    assert bare.call("3", "--batches", "1") == 0
    rows = bare.result("table3")["rows"]
    assert rows["start"]["tasks"] == list(TASKS)
    assert rows["generated"]["absent"]["openbookqa"].startswith("no generator is trained for")


@pytest.mark.slow
def test_costs_grow_as_the_paper_says_by_counted_operations(made: Tables) -> None:
    assert made.call("cost") == 0
    result = made.result("cost")
    for axis in result["axes"].values():
        assert axis["operations_exponent"] == pytest.approx(1.0, abs=0.1)
        assert len(axis["operations"]) == len(axis["sizes"]) == len(axis["seconds"])
    assert (result["ways"], list(result["absent"])) == ({}, ["ways"])  # the recipe's preset is not of this size
    assert result["verdicts"][0]["verdict"] == "holds here"


@pytest.mark.slow
def test_a_short_meta_training_fills_its_rows(made: Tables, tmp_path: Path) -> None:
    assert consolidate.main(consolidation(made.model, tmp_path)) == 0
    given = ("--consolidation", str(tmp_path / FOLDER), "--maml-tokens", "1500")
    again = Tables(made.model, made.shelf, tmp_path / "out")
    assert again.call("3", *given) == 0
    result = again.result("table3")
    assert result["rows"]["maml"]["tasks"] == result["rows"]["maml_adapted"]["tasks"] == list(TASKS)
    assert result["rows"]["maml"]["shared"] is None  # there are no other modules
    assert result["verdicts"][0]["verdict"] in ("holds here", "does not hold here")
    assert "meta-steps" in result["rows"]["maml"]["reads"]
    assert again.call("4", *given) == 0
    rows = again.result("table4")["rows"]
    assert rows["maml_adapted"]["tasks"] == list(TASKS)
    assert rows["checkpoint"]["tasks"] == ["openbookqa"]  # the other one is no source

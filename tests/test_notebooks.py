"""The notebooks of examples/ run from start to end in an empty folder, and hold the outputs of such a run, or none."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def test_the_index_names_every_notebook() -> None:
    index = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[[\w-]+\.ipynb\]\(([\w-]+\.ipynb)\)", index, flags=re.M) != []
    assert {path.name for path in NOTEBOOKS} == set(re.findall(r"\(([\w-]+\.ipynb)\)", index))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_whole_or_not_at_all_and_tells_nothing_of_where(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts in (list(range(1, len(code) + 1)), [None] * len(code))
    assert any(cell.outputs for cell in code) == (None not in counts)
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert not re.search(r"(?:^|[\s\"'(])/(?:\w+/)+", str([cell.outputs for cell in code]).replace("\\n", " "))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, 4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=550, kernel_name="python3", resources=place).execute()
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code" and "print(" in cell.source)

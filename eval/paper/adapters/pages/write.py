"""Writes a table's page with its figures and its pictures."""

import json
from pathlib import Path

from cao.files import write_atomic
from eval.paper.adapters.cost_results import CostResult
from eval.paper.adapters.pages.cost import cost_parts
from eval.paper.adapters.pages.figures import figures_parts
from eval.paper.adapters.pages.table3 import table3_parts
from eval.paper.adapters.pages.table4 import table4_parts
from eval.paper.adapters.results import FiguresResult, Setting, Table3Result, Table4Result


def write_page(result: Setting, folder: Path) -> Path:
    """Write a table's page, figures and pictures, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name, parts = _written(result, folder)
    figures = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / f"{name}.json", f"{figures}\n")
    write_atomic(folder / f"{name}.md", "\n".join(parts))
    return folder / f"{name}.md"


def _written(result: Setting, folder: Path) -> tuple[str, list[str]]:
    """Return a page's file name without its ending, and its parts; its pictures are drawn."""
    if isinstance(result, Table3Result):
        return "table3", table3_parts(result, folder)
    if isinstance(result, Table4Result):
        return "table4", table4_parts(result)
    if isinstance(result, FiguresResult):
        return "figures", figures_parts(result, folder)
    assert isinstance(result, CostResult), type(result)
    return "cost", cost_parts(result, folder)

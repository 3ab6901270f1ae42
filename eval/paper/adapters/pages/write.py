"""Writes a table's page with its figures and its pictures."""

from pathlib import Path

from eval.pages.writing import write_result, writing
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

    Raises:
        InputError: it cannot be written.
    """
    with writing(folder):
        name, parts = _written(result, folder)
    return write_result(result, "\n".join(parts), folder, name)


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

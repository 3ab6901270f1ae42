"""Files, functions and folders of a size that is read in one go."""

import ast
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE_LINES, FUNCTION_LINES, FOLDER_MODULES = 300, 60, 16
A_FILE_A_TASK = "cao/tasks"
"""Grows with every task."""


def folders() -> list[str]:
    """Return the packages' folders, from the root, as they are built."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    return [name.replace(".", "/") for name in stated]


def modules() -> list[Path]:
    """Return the packages' modules and the tests'."""
    packaged = [path for folder in folders() for path in (ROOT / folder).glob("*.py")]
    return [*packaged, *(ROOT / "tests").rglob("*.py")]


def test_no_file_is_too_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert len(lines) > 400
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    long = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}: {node.name}"] = lines
    assert long == {}


def test_no_folder_holds_too_many_modules() -> None:
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in modules() if path.name != "__init__.py")
    assert {name: n for name, n in counts.items() if n > FOLDER_MODULES and name != A_FILE_A_TASK} == {}

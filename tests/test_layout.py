"""Test how the tests are laid out against the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "cao", "eval", "policies", "prompts", "tools")
DEFERRED = {"agent": 31, "cao": 14, "eval": 11, "policies": 8, "prompts": 0, "tools": 0}
"""Imports that are not at the top, for each package: one a command, and optional or slow libraries."""
PATCHES = {"setattr", "delattr", "getattr", "hasattr", "patch", "object", "attrgetter"}


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.AST) -> set[str]:
    """Return the private names that a source file defines: functions, classes, variables and attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if _private(name)}


def _reaches(tree: ast.AST, private: set[str]) -> list[tuple[int, str]]:
    """Return the line and the name of each place in a test where a private name of the code is used."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            names = [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [(node.lineno, name) for name in parts if _private(name)]
        elif isinstance(node, ast.ClassDef) and node.bases:  # a method of the code, written over
            names = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            names = [text.rsplit(".")[-1] for text in texts] if called in PATCHES else []
        found += [(node.lineno, name) for name in names if name in private]
    return found


@pytest.fixture(scope="module")
def private() -> set[str]:
    """Return every private name that the code defines."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {name for path in files for name in _defined(ast.parse(path.read_text()))}


def test_tests_use_public_names_only(private: set[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, name in _reaches(ast.parse(path.read_text()), private)
    ]

    assert private
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "module._name(1)",
        "class Scripted(Policy):\n    def _name(self): pass",
        "from agent.reference import _name",
        "from cao._name import public",
        'monkeypatch.setattr(module, "_name", None)',
        'monkeypatch.setattr("agent.reference._name", None)',
    ],
)
def test_reach_into_a_private_name_is_found(line: str) -> None:
    assert _reaches(ast.parse(line), {"_name"}) == [(1, "_name")]


@pytest.mark.parametrize("line", ["self._name", "module._other", "from os import _exit", "_name()", "module.name"])
def test_name_of_the_test_itself_or_of_a_library_is_no_reach(line: str) -> None:
    assert _reaches(ast.parse(line), {"_name"}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_few_imports_are_deferred_and_each_says_why(package: str) -> None:
    marks = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "PLC0415" in line
    ]
    assert len(marks) <= DEFERRED[package], "\n".join(marks)
    assert [mark for mark in marks if not re.search(r"# noqa: PLC0415  \(.+\)$", mark)] == []

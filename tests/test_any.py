"""Where ``Any`` is left in the packages, and why: every other value has a type that mypy checks."""

import ast

from tests.test_sizes import ROOT, folders

LEFT = {
    "agent/loop/stage_tools.py": (1, "pydantic's create_model takes fields as keyword arguments of any type"),
    "agent/train/engine/local.py": (2, "a worker process holds the work of whoever started it, results of any type"),
    "cao/options.py": (1, "argparse's add_argument takes keyword arguments that depend on the field"),
    "cao/strategy.py": (1, "pydantic's model_construct takes what is not checked"),
    "cao/tasks/sources.py": (1, "rows of other people's data sets, before a task's converter reads them"),
    "policies/client/chat.py": (2, "the client library's keyword arguments, which depend on the server"),
}
"""File → how often it names ``Any``, its import aside, and the reason."""


def count(tree: ast.AST) -> int:
    """Return how often a module names ``Any``, in quoted annotations too; imports and docstrings do not count."""
    found = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            found += "Any" in (getattr(node, "id", None), getattr(node, "attr", None))
        elif isinstance(node, ast.alias):
            found += node.name == "Any" and node.asname is not None
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "Any" in node.value:
            try:
                found += count(ast.parse(node.value, mode="eval"))
            except SyntaxError:  # words, no annotation
                continue
    return found


def found() -> dict[str, int]:
    """Return how often each module of the packages names ``Any``, without those that never do."""
    paths = [path for folder in folders() for path in (ROOT / folder).glob("*.py")]
    counts = {str(path.relative_to(ROOT)): count(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}
    return {name: number for name, number in counts.items() if number}


def test_any_is_left_only_where_the_table_says_why() -> None:
    assert found() == {name: number for name, (number, _) in LEFT.items()}


def test_any_is_found_in_quotes_and_behind_a_module_but_not_in_words() -> None:
    text = '''
"""Any combination of words."""
import typing
from typing import Any

def kept(value: Any, other: "list[Any]", more: typing.Any) -> dict[str, Any]:
    """Any value."""
'''
    assert count(ast.parse(text)) == 4

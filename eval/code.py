"""The version of the code that a result depends on: modules with all that they import, without comments and docstrings.

So a result survives a change of words, and not one of what is computed.
"""

import ast
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cao.files import sha256_bytes
from eval.pages.import_graph import FLOORS, imports

ROOT = Path(__file__).parents[1]

NO_PART = ("agent.record", "agent.health", "cao.options", "cao.command_line", "cao.progress", "eval.options")
"""Pages, progress and options. What options say counts by the settings that a result names."""

QUESTIONS = "cao.tasks"
GRADES = tuple(f"{QUESTIONS}.{name}" for name in ("base", "graders", "numerals", "latex"))
"""Questions count by their text, as the model is asked them; how a written answer is graded is code."""


LIBRARIES = {
    **{name: name for name in ("accelerate", "numpy", "peft", "scipy", "torch", "transformers", "trl")},
    **{"sentence_transformers": "sentence-transformers", "sklearn": "scikit-learn"},
}
"""Module → distribution: they compute, and another version of one may give another result."""


@cache
def code_of(*roots: str) -> str:
    """Return the hash of modules and of everything that they import, with the versions of the libraries that compute.

    Args:
        roots: names of modules.
    """
    modules = sorted(modules_of(*roots))
    told = [f"{name}\n{meaning(name)}\n" for name in modules]
    told += [
        f"{name} {_version(distribution)}\n"
        for name, distribution in LIBRARIES.items()
        if any(_imports(module, name) for module in modules)
    ]
    return sha256_bytes("".join(told).encode())


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # an extra that is not installed
        return ""


def _imports(module: str, library: str) -> bool:
    return re.search(rf"^\s*(from|import) {library}\b", texts()[module], re.MULTILINE) is not None


@cache
def grader_code(module: str) -> str:
    """Return the hash of a task's grader and of everything that it imports; its module may hold its questions, too."""
    return sha256_bytes(f"{meaning(module)}{code_of(*imports(texts()[module], texts()))}".encode())


def modules_of(*roots: str) -> set[str]:
    """Return the names of modules and of everything that they import, as far as a result depends on it."""
    waiting, seen = list(roots), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen and _counts(name):
            seen.add(name)
            waiting += sorted(imports(texts()[name], texts()))
    return seen


def _counts(name: str) -> bool:
    questions = name.startswith(QUESTIONS) and not name.startswith(GRADES)
    return not questions and not any(name == each or name.startswith(f"{each}.") for each in NO_PART)


@cache
def texts() -> dict[str, str]:
    """Return module → source text."""
    paths = [path for floor in FLOORS for top in floor for path in sorted((ROOT / top).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: path.read_text(encoding="utf-8") for name, path in zip(names, paths, strict=True)}


@cache
def meaning(name: str) -> str:
    """Return a module's syntax without what says nothing to the computer, and the texts that lie beside it."""
    tree = ast.parse(texts()[name])
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:]
    templates = sorted((ROOT / "prompts").rglob("*.txt")) if name.startswith("prompts") else []
    return ast.dump(tree) + "".join(path.read_text(encoding="utf-8") for path in templates)

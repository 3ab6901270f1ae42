"""Which room of the tree imports which, and in which order of layers, as a commit of git has it.

A room is what lies directly in a top-level package: a module, or a package with all that is in it.
"""

import ast
import io
import subprocess
import tarfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from cao.errors import InputError

FLOORS = (("eval",), ("agent",), ("tools", "policies"), ("cao", "prompts"))
"""The top-level packages, the highest layer first."""

Edges = Mapping[tuple[str, str], int]
"""(importer, imported) → number of importing files."""


def sources(revision: str) -> dict[str, str]:
    """Return module → source text, as a commit has them.

    Args:
        revision: what git takes for a commit.

    Raises:
        InputError: this is no clone, or there is no such commit.
    """
    packages = [name for floor in FLOORS for name in floor]
    try:
        made = subprocess.run(["git", "archive", revision, *packages], capture_output=True, check=False)
    except OSError as error:
        raise InputError(f"{revision} cannot be read without git ({error.strerror})") from None
    if made.returncode:
        raise InputError(f"git cannot read {revision}: {made.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive if entry.name.endswith(".py")}
        texts = {name: file.read().decode() for name, file in files.items() if file is not None}
    return {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): text for name, text in texts.items()}


def imports(text: str, modules: Iterable[str]) -> set[str]:
    """Return the modules that a source text imports, wherever in it the import stands.

    Args:
        text: Python.
        modules: those that count.
    """
    known, imported = set(modules), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = (f"{node.module}.{name.name}" for name in node.names)
            imported |= {name if name in known else node.module for name in inner}
    return imported & known


def rooms(modules: Mapping[str, str]) -> tuple[dict[str, int], Edges]:
    """Return the files of each room, and the imports between rooms.

    Args:
        modules: module → source text.
    """
    edges: Counter[tuple[str, str]] = Counter()
    files: Counter[str] = Counter()
    for module, text in modules.items():
        files[_room(module)] += 1
        edges.update({(_room(module), _room(other)) for other in imports(text, modules)})
    return dict(files), {edge: count for edge, count in edges.items() if edge[0] != edge[1]}


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def order(rooms: Iterable[str], edges: Edges, layer: Mapping[str, int]) -> list[str]:
    """Return all rooms, the highest first: as the contracts have it where they speak of both ends of an import.

    Args:
        rooms: names.
        edges: the imports.
        layer: what ``contracts`` returned.
    """
    kept = {edge: count for edge, count in edges.items() if not _forbidden(edge, layer)}
    floors = [[room for room in rooms if room.split(".")[0] in floor] for floor in FLOORS]
    return [room for floor in floors for room in _in_order(floor, kept)]


def _in_order(names: Iterable[str], edges: Edges) -> list[str]:
    """Return rooms with the importers first, so that few imports point back: none where there is no circle.

    Source: the greedy rule of Eades, Lin and Smyth (1993).

    Args:
        names: the rooms of one floor.
        edges: the imports; those of other rooms do not count.
    """
    left, first, last = sorted(names), list[str](), list[str]()
    while left:
        out = {a: sum(edges.get((a, b), 0) for b in left) for a in left}
        into = {a: sum(edges.get((b, a), 0) for b in left) for a in left}
        if sinks := [name for name in left if not out[name]]:
            last = [*sinks, *last]
        elif tops := [name for name in left if not into[name]]:
            first += tops
        else:
            first.append(max(left, key=lambda name: out[name] - into[name]))
        left = [name for name in left if name not in first and name not in last]
    return first + last


def contracts(path: Path = Path("pyproject.toml")) -> dict[str, int]:
    """Return room → its layer in its container, 0 the highest, as the import contracts have it.

    Args:
        path: the project's settings.
    """
    stated = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return {
        f"{container}.{name.strip()}": number
        for contract in stated
        for container in contract.get("containers", ())
        for number, layer in enumerate(contract["layers"])
        for name in layer.split("|")
    }


def _forbidden(edge: tuple[str, str], layer: Mapping[str, int]) -> bool:
    """Return whether the contracts speak of both ends of an import and have it point up."""
    a, b = edge
    return a.split(".")[0] == b.split(".")[0] and a in layer and b in layer and layer[a] >= layer[b]


def against(order: list[str], edges: Edges) -> list[tuple[str, str]]:
    """Return the imports that point up, in the order of their importers.

    Args:
        order: every room, the highest first.
        edges: the imports.
    """
    place = {name: i for i, name in enumerate(order)}
    return sorted((edge for edge in edges if place[edge[0]] > place[edge[1]]), key=lambda edge: place[edge[0]])


def layers(order: list[str], edges: Edges) -> dict[str, int]:
    """Return the layer of each room, 0 the highest: below all that import it, by the imports that keep the order.

    Args:
        order: every room, the highest first.
        edges: the imports.
    """
    wrong, rows, begin = set(against(order, edges)), dict[str, int](), 0
    for floor in FLOORS:
        mine = [name for name in order if name.split(".")[0] in floor]
        for name in mine:
            above = [rows[a] + 1 for a, b in edges if b == name and a in mine and (a, b) not in wrong]
            rows[name] = max([begin, *above])
        begin = max([begin, *(rows[name] + 1 for name in mine)])
    return rows

"""The documents hold what they promise: links and paths lead somewhere, indexes are whole, commands parse."""

import ast
import re
import runpy
import shlex
import tomllib
from itertools import product
from pathlib import Path

import pytest

from cao.strategy import FAMILIES, parse_strategy

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for place in ("*.md", "docs/**/*.md", "examples/*.md") for page in sorted(ROOT.glob(place))]
ADRS = ROOT / "docs/explanation/adr"
UNKNOWN = "--no-such-option"


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the fragments that a page's headings can be reached by."""
    heads = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{shown(page)} links to {target}"
        assert place.is_relative_to(ROOT), f"{shown(page)} links out of the repository: {target}"
        assert not fragment or fragment in anchors(place), f"{shown(page)} links to {target}: no such heading"


def test_every_document_that_the_code_names_is_there() -> None:
    for file in (file for top in ("agent", "cao", "eval", "policies", "tools") for file in ROOT.glob(f"{top}/**/*.py")):
        for name in re.findall(r"\bdocs/[\w/.-]+\.\w+", file.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{shown(file)} names {name}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = (page.parent / target.partition("#")[0] for target in re.findall(r"\]\(([^)\s:]+)\)", prose(page)))
        ahead += [target.resolve() for target in targets if target.suffix == ".md"]
    assert [shown(page) for page in PAGES if page not in reached] == []


def test_the_index_of_decisions_lists_each_with_its_title() -> None:
    files = sorted(ADRS.glob("[0-9]*.md"))
    titles = [(file.name, file.read_text(encoding="utf-8").partition("\n")[0]) for file in files]
    wanted = [
        f"{number}. [{title.removeprefix(f'# {number}. ')}]({name})" for number, (name, title) in enumerate(titles, 1)
    ]
    listed = [
        line for line in (ADRS / "README.md").read_text(encoding="utf-8").splitlines() if re.match(r"\d+\.", line)
    ]
    assert listed == wanted


def named_paths(cell: str) -> list[tuple[Path, str]]:
    """Return the paths of a table's cell, each with the function it goes on with.

    A name without a folder lies beside the path before it; ``tools/evaluate.compare`` is a function of the package.
    """
    found: list[tuple[Path, str]] = []
    for name in re.findall(r"`([\w/.*]+)`", cell):
        folder, _, last = name.rpartition("/")
        place = ROOT / folder if folder else found[-1][0].parent
        stem, _, function = last.partition(".")
        if function in ("", "py"):
            found.append((place / last, ""))
        else:
            file = place / f"{stem}.py"
            found.append((file if file.exists() else place / stem / "__init__.py", function))
    return found


def test_every_path_of_the_paper_map_is_there() -> None:
    rows = (ROOT / "docs/explanation/paper-map.md").read_text(encoding="utf-8").splitlines()
    cells = [cell for row in rows if row.startswith("| ") for cell in row.split("|")[3:5]]
    paths = [one for cell in cells for one in named_paths(cell)]
    assert len(paths) > 60
    for path, function in paths:
        assert list(path.parent.glob(path.name)), f"paper-map.md names {shown(path)}"
        assert not function or function in defined(path), f"paper-map.md names {function} of {shown(path)}"


def test_the_strategies_page_shows_each_family_once_and_names_every_key() -> None:
    text = (ROOT / "docs/reference/strategies.md").read_text(encoding="utf-8")
    shown = [parse_strategy(line) for line in re.findall(r"^\{.*\}$", text, flags=re.M)]
    assert [one.family for one in shown] == list(FAMILIES)
    table = {word for row in text.splitlines() if row.startswith("|") for word in re.findall(r"`(\w+)`", row)}
    assert {key for one in shown for key in one.canonical()} - {"family"} <= table
    assert set(FAMILIES) <= table


def defined(file: Path) -> set[str]:
    """Return the functions, classes and methods (``Class.method``) of a file, and its constants."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_every_step_of_the_walks_is_in_its_file() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"^\| `([\w/.]+)` \| `([\w.]+)` \|", text, flags=re.M)
    assert len(steps) > 30
    for file, function in steps:
        assert (ROOT / file).is_file(), f"architecture.md names {file}"
        assert function in defined(ROOT / file), f"architecture.md names {function} of {file}"


def test_the_tree_has_a_line_for_every_package() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    tree = re.search(r"^```\n(agent/.*?)^```", text, flags=re.M | re.S)
    assert tree
    shown: list[str] = []
    for spaces, name in re.findall(r"^( *)(\w+)/ ", tree[1], flags=re.M):
        depth = len(spaces) // 2
        above = next((one for one in reversed(shown) if one.count(".") == depth - 1), "") if depth else ""
        shown.append(f"{above}.{name}" if above else name)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(shown) == sorted([*packages, "tests", "docs"])


def commands(page: Path) -> set[str]:
    """Return the commands in a page's blocks and tables, one for each of the alternatives that it shows."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ").replace("\\|", "|")
    lines = re.findall(r"^\s*(python -m (?:agent|eval|policies)\.[^#\n]+)", text, flags=re.M)
    lines += re.findall(r"^\|.*?`(python -m (?:agent|eval|policies)\.[^`]+)`", text, flags=re.M)
    made = set()
    for line in lines:
        first, *others = re.sub(r"[\[\]…]", " ", line).split(" | ")
        module = " ".join(shlex.split(first)[:3])
        for one in (first, *(f"{module} {other}" for other in others)):
            words = [word.split("|") for word in shlex.split(one)]
            made |= {shlex.join("1" if word in ("N", "S") else word for word in each) for each in product(*words)}
    return made


COMMANDS = sorted({one for page in PAGES if "results" not in page.parts for one in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_every_command_of_the_documents_parses(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is given one unknown option more: it is refused, and for nothing else, before it does anything."""
    _, _, module, *words = shlex.split(command)
    monkeypatch.setattr("sys.argv", [module, *words, UNKNOWN])
    with pytest.raises(SystemExit) as refused:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert refused.value.code == 2
    assert re.findall(r"--[\w-]+", told) == [UNKNOWN], told

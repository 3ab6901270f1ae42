"""The documents' examples run: blocks behind ``<!-- run -->``, on a tiny model in place of the embedded one.

``<!-- file: NAME -->`` makes the file that the page shows. What is not marked is parsed, by ``test_docs``.
"""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from agent.train.engine.settings import read_engine
from tests.test_docs import PAGES, shown

BLOCK = re.compile(r"^<!-- (run|file: (?P<name>[\w.-]+)) -->\n```(?P<language>\w*)\n(?P<text>.*?)^```", re.M | re.S)
MARKED = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
MAKES_QUESTIONS = next(
    block["text"]
    for page in MARKED
    if page.name == "five-minutes.md"
    for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
    if block["language"] == "python"
)
"""What a reader has done before: questions.csv is the file of the first steps."""


def commands(text: str) -> list[list[str]]:
    """The words of each command of a block, comments left out."""
    return [words for line in text.replace("\\\n", " ").splitlines() if (words := shlex.split(line, comments=True))]


def run(words: list[str], model: Path) -> int:
    """Run a command on the tiny model and return its exit status."""
    assert words[:2] == ["python", "-m"], words
    _, _, module, *given = words
    newest = sorted(Path("runs").glob("*/trace.jsonl"), key=lambda file: file.stat().st_mtime)
    given = [newest[-1].parent.name if word == "RUN" else word for word in given]
    tiny = ["--model", "qwen2.5-0.5b", "--model-path", str(model), "--offline"]
    sizes = ["--support", "8", "--reward", "12", "--test", "12"]
    policy = [] if "--policy" in given else ["--policy", "random"]
    more = {"agent.run": [*tiny, *sizes, *policy], "agent.consolidate": tiny}.get(module, [])
    status: int = importlib.import_module(module).main([*given, *more])
    return status


def test_there_are_examples_that_run() -> None:
    assert {shown(page) for page in MARKED} >= {
        "docs/start/five-minutes.md",
        "docs/guides/policies.md",
        "docs/guides/cluster.md",
    }


@pytest.mark.integration
@pytest.mark.parametrize("page", MARKED, ids=shown)
def test_the_examples_of_a_page_run(
    page: Path, roomy_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(MAKES_QUESTIONS, "five-minutes.md", "exec"), names)
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if found["name"]:
            Path(found["name"]).write_text(found["text"], encoding="utf-8")
        elif found["language"] == "python":
            exec(compile(found["text"], page.name, "exec"), names)
        else:
            for words in commands(found["text"]):
                assert run(words, roomy_model_folder) == 0, shlex.join(words)
    for file in tmp_path.glob("*.toml"):
        assert read_engine(file).kind == "ray"

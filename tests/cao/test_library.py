"""The library's door: light until a verb is asked for, typed, and the same from any folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import agent.api
import cao
from cao.command_line import quiet_libraries

ROOT = Path(__file__).parents[2]
SLOW = ("torch", "transformers", "langgraph", "datasets", "pydantic", "agent")


def python(code: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    words = [sys.executable, "-c", f"import sys; sys.path += {paths!r}\n{code}"]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)


def test_the_door_imports_nothing_before_a_verb_is_asked_for(tmp_path: Path) -> None:
    found = python(f"import cao; print(cao.__version__, [name for name in {SLOW} if name in sys.modules])", tmp_path)
    assert found.stdout == f"{cao.__version__} []\n", found.stderr


def test_the_door_opens_on_the_librarys_own_verbs() -> None:
    verbs = [getattr(cao, name) for name in cao.VERBS]
    assert [verb.__name__ for verb in verbs] == list(cao.VERBS)
    assert all(verb is getattr(agent.api, verb.__name__) for verb in verbs)
    assert set(cao.VERBS) <= set(dir(cao))
    with pytest.raises(AttributeError, match="module 'cao' has no attribute 'adopt'"):
        _ = cao.adopt  # type: ignore[attr-defined]


def test_what_type_checkers_read_names_the_same_verbs() -> None:
    tree = ast.parse((ROOT / "cao/__init__.pyi").read_text(encoding="utf-8"))
    imported = {
        (node.module, alias.name, alias.asname)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {(cao.LIBRARY, name, name) for name in cao.VERBS}
    stated = {
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert all(hasattr(cao, name) for name in stated)


def test_another_package_of_a_name_of_ours_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/__init__.py").write_text("raise SystemExit('not ours')\n")
    code = "sys.path.insert(0, '')\ntry:\n    from cao import load\nexcept Exception as error:\n    print(error)"
    found = python(code, tmp_path)
    assert "hides the package 'agent'" in found.stdout, found.stderr


def test_offline_holds_for_libraries_that_were_imported_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config
    from huggingface_hub import constants

    for module in (config, constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "")
    quiet_libraries(offline=False)
    assert not constants.is_offline_mode()
    quiet_libraries(offline=True)
    assert constants.is_offline_mode()
    assert config.HF_HUB_OFFLINE

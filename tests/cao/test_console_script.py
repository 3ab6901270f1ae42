"""The console script: every verb is the module's own command, and a shell completes its words."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cao.console import SHELLS, VERBS, completion, main

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script as an installation writes it, from what the project states."""
    module, _, function = PROJECT["project"]["scripts"]["cao"].partition(":")
    path = tmp_path_factory.mktemp("bin") / "cao"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    path.chmod(0o755)
    return path


def start(*words: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=env)


@pytest.mark.parametrize(
    ("verb", "module", "words"),
    [
        ("run", "agent.run", ["--task", "gsm8k", "--dry-run", "--json"]),
        ("run", "agent.run", ["--task", "gsm8k", "--set", "reward=1"]),
        ("trace", "agent.trace", ["show", "nothing", "--out", "nowhere"]),
        ("propose", "policies.propose", ["--context", "nowhere"]),
        ("score", "eval.score", ["--task", "nothing"]),
        ("bench", "eval.bench", ["latent", "--task", "nothing", "--offline"]),
    ],
)
def test_a_verb_is_what_its_module_is(verb: str, module: str, words: list[str], script: Path, tmp_path: Path) -> None:
    ours = start(str(script), verb, *words, cwd=tmp_path)
    theirs = start(sys.executable, "-m", module, *words, cwd=tmp_path)
    told = [re.sub(r'"memory_available_mb": \d+', "", each.stdout) for each in (ours, theirs)]  # it is another by then
    assert (ours.returncode, told[0], ours.stderr) == (theirs.returncode, told[1], theirs.stderr)
    assert ours.returncode in (0, 2)


def test_the_help_lists_every_verb_and_names_the_program_as_it_was_typed(script: Path) -> None:
    shown = start(str(script), "--help").stdout
    assert set(re.findall(r"^    ([a-z-]+)", shown, re.MULTILINE)) == {*VERBS, "completion"}
    assert start(str(script), "train-policy", "--help").stdout.startswith("usage: cao train-policy ")
    assert start(sys.executable, "-m", "agent.train_policy", "--help").stdout.startswith(
        "usage: python -m agent.train_policy "
    )


@pytest.mark.parametrize("words", [[], ["runs"], ["completion", "fish"]])
def test_no_such_verb_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: cao" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["cao", "t"], ["trace", "train-policy", "tables"]),
        (["cao", "run", "--ma"], ["--map", "--max-attempts"]),
        (["cao", "reference", "--re"], ["--registry", "--replace"]),
        (["cao", "trace", "d"], ["diff"]),
        (["cao", "bench", "engine", "--ce"], ["--cells"]),
        (["cao", "run", "FILE"], []),
    ],
)
def test_bash_completes_verbs_and_options(typed: list[str], completed: list[str]) -> None:
    if not shutil.which("bash"):
        pytest.skip("bash is not here")
    lines = f"COMP_WORDS=({' '.join(typed)}); COMP_CWORD={len(typed) - 1}; _cao; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = start("bash", "-c", f"{completion('bash')}\n{lines}")
    assert done.stderr == ""
    assert sorted(done.stdout.split()) == sorted(completed)


def test_zsh_gets_the_same_words_by_its_bash_completion() -> None:
    assert completion("zsh").endswith(completion("bash"))
    assert "bashcompinit" in completion("zsh")
    assert set(SHELLS) == {"bash", "zsh"}


def test_every_package_says_that_it_is_typed_and_ships_the_mark() -> None:
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for name in {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]} - {"pretrained"}:
        assert (ROOT / name / "py.typed").is_file(), name


def test_every_verb_has_a_module_with_a_parser() -> None:
    for module, _ in VERBS.values():
        assert importlib.import_module(module).parser().format_help()


def test_a_verb_prints_json_and_nothing_else(script: Path) -> None:
    assert json.loads(start(str(script), "run", "--task", "gsm8k", "--dry-run", "--json").stdout)["max_attempts"] == 4

"""What every command shares: any text on any terminal, the right packages, and signals."""

import errno
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao import encodings
from cao.command_line import PACKAGES, run_command
from cao.errors import InputError
from tests.agent import run_folders as made

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("agent.run", "agent.doctor", "agent.trace", "agent.drift", "agent.watch", "agent.generate", "agent.reference"),
    *("agent.consolidate", "agent.train_policy", "policies.propose", "eval.score", "eval.tables"),
)


def start(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a module as a command."""
    command = [sys.executable, "-m", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, check=False, cwd=cwd, env=env, timeout=120)


def stream(encoding: str, raw: io.BytesIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="", write_through=True)


def written(text: str, encoding: str) -> bytes:
    """What a command's standard output gets of a text."""

    def body() -> int:
        sys.stdout.write(text)
        return 0

    raw = io.BytesIO()
    with redirect_stdout(stream(encoding, raw)) as out:
        assert run_command(body) == 0
        assert isinstance(out, io.TextIOWrapper)
        out.detach()  # or the bytes go with it
    return raw.getvalue()


def test_what_the_system_refuses_is_one_line_and_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(error: OSError) -> int:
        def body() -> int:
            raise error

        return run_command(body)

    assert refused(PermissionError(errno.EACCES, "no", "runs/one")) == 3
    assert refused(OSError(errno.EROFS, "no", "runs/one")) == 3
    assert refused(OSError(errno.ENAMETOOLONG, "no", "9" * 5_000)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error"] * 3
    assert max(map(len, lines)) < 300


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@given(text=st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_is_written_in_any_encoding(encoding: str, text: str) -> None:
    written(text, encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@given(text=st.text(st.characters(exclude_categories=()), max_size=30))
def test_json_says_the_same_in_any_encoding(encoding: str, text: str) -> None:
    for value in ({"text": text}, [text]):
        assert json.loads(written(json.dumps(value, ensure_ascii=False), encoding).decode(encoding)) == value


def test_our_own_signs_have_plain_names() -> None:
    assert written("48.5 → 49.0 %, −0.02 … “τ” ≤ 3", "ascii") == b"48.5 -> 49.0 %, -0.02 ... 'tau' <= 3"
    assert written("48.5 → 49.0 %, −0.02 … “τ” ≤ 3", "cp1252").decode("cp1252") == "48.5 -> 49.0 %, -0.02 … “tau” <= 3"
    assert written("東", "ascii") == rb"\u6771"


def test_every_sign_in_our_source_that_a_terminal_may_lack_is_known() -> None:
    """Of the characters that are printed, by and large: those in the modules that put things into words."""
    names = ("record/wording", "record/events", "record/trace_verbs/view", "record/terminal", "doctor", "health/checks")
    for name in (*names, "health/hub", "record/trace_verbs/diff", "budget/plan", "budget/fit"):
        for char in (ROOT / "agent" / f"{name}.py").read_text(encoding="utf-8"):
            assert char.isascii() or char in encodings.PLAIN, (name, char)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_run_is_shown_and_listed_on_a_terminal_without_unicode(encoding: str, tmp_path: Path) -> None:
    made.write_run(tmp_path, "one", made.started_run("one"))
    made.write_run(tmp_path, "two", made.hostile("two"))
    for words in (["list"], ["show", "one"], ["show", "two"], ["diff", "one", "two"], ["show", "two", "--json"]):
        done = start("agent.trace", *words, "--out", str(tmp_path), PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert done.stdout.decode(encoding)
        assert b"Unicode" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", COMMANDS)
def test_help_is_shown_on_a_terminal_without_unicode(module: str) -> None:
    done = start(module, "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PACKAGES[1:])
def test_a_package_of_the_users_that_hides_ours_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is not ours')")
    done = start("agent.trace", "list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    told = done.stderr.decode()
    assert told.startswith(f"error: {tmp_path / name} hides the package {name!r} of {ROOT}; ")
    assert told.count("\n") == 1
    assert "python -P -m" in told
    command = [sys.executable, "-P", "-m", "agent.trace", "list"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_folder_without_packages_of_its_own_is_fine(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()  # no package: there is no __init__.py in it
    assert start("agent.trace", "list", cwd=tmp_path).returncode == 0


def test_an_expected_error_is_one_line_in_any_encoding() -> None:
    raw = io.BytesIO()

    def body() -> int:
        raise InputError("no “τ”\nhere")

    with redirect_stderr(stream("ascii", raw)) as err:
        assert run_command(body) == 2
        assert isinstance(err, io.TextIOWrapper)
        err.detach()
    assert raw.getvalue() == b"error: no 'tau' here\n"

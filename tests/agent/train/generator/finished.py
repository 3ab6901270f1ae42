"""A consolidation that nothing disturbed, and calls of the command."""

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from agent.consolidate import main
from cao.files import sha256_file
from tests.agent.train.generator.tiny_consolidation import FOLDER, LEFT_OUT, command

WITHOUT = f"without-{LEFT_OUT}"


@dataclass
class Ended:
    """What one call of the command came to."""

    code: int
    out: str
    err: str


def call(argv: list[str]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv)
    return Ended(code, out.getvalue(), err.getvalue())


@dataclass
class Finished:
    """A consolidation from nothing that nothing disturbed; tests read its folder and do not change it."""

    ended: Ended
    out: Path
    model: Path

    @property
    def folder(self) -> Path:
        return self.out / FOLDER

    def command(self, *more: str) -> list[str]:
        return command(self.model, self.out, *more)

    def copy(self, out: Path, *without: str) -> Path:
        """Copy the folder less what matches one of the patterns, and the index; returns the copy."""
        shutil.copytree(self.folder, out / FOLDER)
        for pattern in (*without, "index.json", ".lock"):
            for path in (out / FOLDER).glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return out / FOLDER


def content(folder: Path) -> dict[str, str]:
    """The hash of every file, and so the names too; the lock is no part of what was made."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def one_line(ended: Ended) -> str:
    """The message of a refusal: one line, nothing on standard output."""
    assert (ended.out, ended.err.count("error: "), ended.err.count("\n")) == ("", 1, 1), ended
    return ended.err

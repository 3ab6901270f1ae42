"""The lock that the environment is made from: whole, with hashes, and of the versions that are tested."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BY_INDEX = "torch"
"""Package indexes serve builds of their own of it, so no hash is known before."""
NEVER_HERE = {"appnope", "cffi", "httpx2-jsfetch", "pycparser"}
"""What only a platform needs on which nothing is tested."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name → version and hashes."""
    text = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    pins = [(row[0].split("=="), [word for word in row if word.startswith("--hash=")]) for row in rows]
    return {canonical(name): (version, hashes) for (name, version), hashes in pins}


def test_every_locked_package_has_hashes() -> None:
    lock = locked()
    assert len(lock) > 100
    for name, (_, hashes) in lock.items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name


def test_the_lock_holds_the_versions_that_are_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    lock = locked()
    assert {name: version for name, (version, _) in lock.items() if tested.get(name) != version}.keys() == NEVER_HERE


def test_the_lock_holds_every_dependency_but_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["dev"], *extras["docs"]]
    names = {canonical(re.split(r"[<>=\[; ]", each)[0]) for each in needed}
    assert names - locked().keys() == {BY_INDEX}

"""The extras, against what the package itself declares."""

import sys
import tomllib
from pathlib import Path

import pytest

from cao.errors import UnavailableError
from cao.machine import extras

ROOT = Path(__file__).parents[3]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", extras.EXTRAS)
def test_every_extra_is_declared_and_told_by_the_command_that_installs_it(
    name: extras.ExtraName, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = extras.EXTRAS[name].modules[-1]
    assert name in DECLARED
    assert last.split(".")[0].split("_")[0] in " ".join(DECLARED[name])
    for module in extras.EXTRAS[name].modules:
        monkeypatch.setitem(sys.modules, module, None)
    assert extras.missing(name) == extras.EXTRAS[name].modules[0]
    with pytest.raises(UnavailableError, match=rf"needs the extra {name}: .*-e '\.\[{name}\]'"):
        extras.need(name)


def test_the_reference_of_commands_lists_them() -> None:
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    listed = [line for line in text.partition("## Extras")[2].splitlines() if line.startswith("| `")]
    assert listed == [f"| `{name}` | {extra.purpose} |" for name, extra in extras.EXTRAS.items()]


def test_what_is_installed_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "otel", extras.Extra("a test", ("json", "os.path")))
    assert extras.missing("otel") is None
    extras.need("otel")
    monkeypatch.setitem(extras.EXTRAS, "otel", extras.Extra("a test", ("json", "no_such_package.inner")))
    assert extras.missing("otel") == "no_such_package.inner"

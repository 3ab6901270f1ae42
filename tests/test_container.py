"""The container's files: what they copy is there and enough, commands parse, and no rights or secrets are given."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from agent import run
from cao.console import VERBS

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, flags=re.M)


def copied() -> set[str]:
    """What is copied from the repository."""
    return {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}


def test_what_is_copied_is_there_and_all_that_the_packages_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]} | {project["project"]["readme"]}
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert needed <= copied()


def test_nothing_else_is_sent_to_the_builder() -> None:
    lines = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied()


def test_it_runs_as_a_user_without_rights() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = re.findall(r"^USER (.+)$", last, flags=re.M)
    assert user == ["10001"]
    assert f"--uid {user[0]}" in last
    assert not re.search(r"\b(pip|apt-get|curl)\b", last[last.index("USER") :])


def test_packages_come_by_their_hashes_but_torch_and_its_own_build_tool() -> None:
    pips = re.findall(r"pip (?:wheel|install) [^&\n]+", DOCKERFILE)
    assert len(pips) == 6
    for one in pips:
        assert "--require-hashes" in one or "--no-index" in one or one.split()[-1] in ("torch", "setuptools", "."), one


def test_the_job_that_it_does_is_offline() -> None:
    (words,) = (re.findall(r'"([^"]+)"', line) for line in instructions("CMD"))
    job = COMPOSE["services"]["run"]
    assert job["network_mode"] == "none"
    assert job["command"] == words
    assert words[0] == "run"
    assert run.parser().parse_args(words[1:]).offline
    assert 'ENTRYPOINT ["cao"]' in DOCKERFILE


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_has_few_rights_and_no_secret(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert all("=" not in one for one in service.get("environment", []))
    assert {volume.split(":")[0] for volume in service["volumes"]} == set(COMPOSE["volumes"])


def test_the_servers_command_parses() -> None:
    words = COMPOSE["services"]["serve"]["command"]
    if words[0] not in VERBS:
        pytest.skip("no such verb")
    module = __import__(VERBS[words[0]][0], fromlist=["parser"])
    assert module.parser().parse_args(words[1:]).host == "0.0.0.0"

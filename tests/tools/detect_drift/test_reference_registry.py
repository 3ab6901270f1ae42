"""The registry of known tasks: what is listed, shipped, added, removed and refused."""

import json
from pathlib import Path

import pytest

from agent.reference import main
from agent.stages.reference import encoder_hash
from cao.errors import InputError, UnavailableError
from cao.model.encoder import Encoder
from tests.tools.detect_drift.reference_files import UNIT, forge, write_lines
from tools.detect_drift import reference
from tools.detect_drift.reference import IN_DOMAIN, check_name


def test_list_goes_on_behind_a_damaged_file_and_names_those_of_another_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "a.safetensors").write_bytes(b"damaged")
    forge(tmp_path / "b.safetensors", {"embeddings": UNIT})
    monkeypatch.setattr("agent.stages.reference.encoder_hash", lambda: "f" * 64)
    assert main(["list", "--folder", str(tmp_path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"a: unusable, {tmp_path}/a.safetensors: damaged or not safetensors")
    assert second == "b: 9 prompts, from a forge; unusable, made by another encoder; build it anew from its prompts"
    assert main(["list", "--folder", str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows if row["unusable"]] == ["a", "b"]
    assert main(["show", "a", "--folder", str(tmp_path)]) == 2
    for same_or_none in ("e" * 64, None):
        monkeypatch.setattr("agent.stages.reference.encoder_hash", lambda known=same_or_none: known)
        capsys.readouterr()
        assert main(["list", "--folder", str(tmp_path)]) == 0
        assert capsys.readouterr().out.endswith("b: 9 prompts, from a forge\n")


@pytest.mark.integration
def test_a_reference_is_added_listed_shown_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    rows = [{"question": f"How many apples are {i} and {i + 1}?", "correct": i % 2 == 0} for i in range(20)]
    source = write_lines(tmp_path / "sums.jsonl", list(rows))
    assert main(["add", "sums", source]) == 0
    assert "sums: 20 prompts, outcomes, from sums.jsonl" in capsys.readouterr().out
    assert main(["add", "sums", source]) == 2
    assert "--replace" in capsys.readouterr().err
    assert main(["add", "sums", source, "--replace"]) == 0
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in listed] == [*sorted(IN_DOMAIN), "sums"]
    assert main(["remove", "sums"]) == 0
    assert main(["show", "sums"]) == 2
    assert "no reference 'sums'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", "../up", "x.jsonl"], "is no name"),
        (["add", "piqa", "x.jsonl"], "is a shipped reference"),
        (["remove", "piqa"], "is shipped and stays"),
        (["remove", "nothing"], "no reference 'nothing'"),
        (["remove", "piqa", "--folder", "{}/shipped"], "is shipped and stays"),
        (["remove", "piqa", "--folder", "{}/shipped/../shipped"], "is shipped and stays"),
        (["remove", "piqa", "--folder", "{}/link"], "is shipped and stays"),
        (["remove", "dir", "--folder", "{}/own"], "dir.safetensors: cannot be removed"),
        (["add", "../../x", "{}/sums.jsonl", "--folder", "{}/shipped"], "is no name"),
        (["add", "m2", "{}/sums.jsonl", "--folder", "{}/sums.jsonl"], "sums.jsonl: cannot be made"),
        (["add", "m2", "{}/sums.jsonl", "--folder", "{}/sums.jsonl/sub"], "sub: cannot be made"),
        (["add", "dir", "{}/sums.jsonl", "--folder", "{}/own", "--replace"], "is a directory"),
        (["list", "--folder", "{}/nowhere"], "nowhere: no such folder"),
        (["list", "--folder", "{}/sums.jsonl"], "sums.jsonl: no such folder"),
        (["show", "piqa", "--folder", "{}/nowhere"], "nowhere: no such folder"),
        (["remove", "piqa", "--folder", "{}/nowhere"], "nowhere: no such folder"),
    ],
)
def test_registry_refuses(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(reference, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "piqa.safetensors").touch()
    (tmp_path / "own" / "dir.safetensors").mkdir(parents=True)
    (tmp_path / "link").symlink_to("shipped")
    write_lines(tmp_path / "sums.jsonl", [{"prompt": f"add {i}"} for i in range(20)])
    monkeypatch.setattr(Encoder, "embed", lambda *_: pytest.fail("encoded before it was refused"))
    assert main([part.replace("{}", str(tmp_path)) for part in arguments]) == 2
    assert reason in capsys.readouterr().err
    assert (tmp_path / "shipped" / "piqa.safetensors").exists()


def test_a_shipped_name_may_be_made_anew_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "SHIPPED", tmp_path / "link")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "piqa.safetensors").touch()
    assert check_name("piqa", tmp_path) == "piqa"
    with pytest.raises(InputError, match="is a shipped reference"):
        check_name("piqa", tmp_path / "own")


def test_references_are_listed_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise UnavailableError("not installed")

    monkeypatch.setattr("agent.stages.reference.minilm_folder", absent)
    assert encoder_hash.__wrapped__() is None

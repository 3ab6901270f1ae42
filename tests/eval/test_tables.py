"""What each table of ``python -m eval.tables`` reads: an option that changes nothing is told."""

import json
import shlex
from pathlib import Path

import pytest

from eval import tables
from eval.options import TablesOptions

RESULTS = Path(__file__).parents[2] / "docs/results"


@pytest.mark.parametrize(
    ("table", "given", "said"),
    [
        ("cost", ["--workers", "2"], "--workers: --table cost does not read it (2, 5, 6, all, generation, policies"),
        ("acceptance", ["--tasks", "gsm8k"], "--tasks: --table acceptance does not read it"),
        ("drift", ["--model", "x"], "--model: --table drift does not read it"),
        ("6", ["--maml-tokens", "9"], "--maml-tokens: --table 6 does not read it (3, 4, all read it)"),
        ("2", ["--seed", "0"], "--seed: --table 2 does not read it (drift, acceptance read it)"),
        ("cost", ["--set", "workers=2"], "--workers: --table cost does not read it"),
        ("labels", ["--training", "x"], "--training: --table labels does not read it (policies reads it)"),
    ],
)
def test_an_option_that_changes_nothing_is_told(table: str, given: list[str], said: str) -> None:
    (sentence,) = tables.unread(tables.parser().parse_args(["--table", table, *given]), table)
    assert sentence.startswith(said)


def test_a_note_stands_before_what_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--table", "verdicts", "--out", str(tmp_path / "no"), "--workers", "2"]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note == "note: --workers: --table verdicts does not read it (2, 5, 6, all, generation, policies read it)"
    assert error.startswith(f"error: {tmp_path / 'no'}: no table that verdicts are of lies there; --out names another")
    assert not (tmp_path / "no").exists()


def test_a_plan_of_what_has_none_is_refused_and_nothing_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--table", "3", "--dry-run"]) == 2
    assert "--dry-run: --table 3 has no plan (2, 5, 6, all have one); leave it out" in capsys.readouterr().err


def test_the_help_says_of_each_option_which_tables_read_it() -> None:
    known = {name for readers in tables.READ_BY.values() for name in readers} | {"all", "verdicts"}
    told = dict[str, set[str]]()
    for name, field in TablesOptions.model_fields.items():
        prefix = (field.description or "").split(":")[0].replace("2 to 6", "2, 3, 4, 5, 6").split(", ")
        if name != "table" and set(prefix) <= known:
            told[name] = set(prefix)
    assert len(told) > 10
    for name, names in told.items():
        read = set(tables.READ_BY[name])
        assert names <= read, name
        assert read - names <= {"all", "verdicts", "figures", "cost", "starts", "labels", "3", "4"}, name


def test_every_committed_command_can_be_given_again() -> None:
    told = [str(json.loads(path.read_text()).get("command", "")) for path in RESULTS.rglob("*.json")]
    commands = {command for command in told if command.startswith("python -m eval.tables ")}
    assert len(commands) > 10
    for command in commands:
        arguments = tables.parser().parse_args(shlex.split(command)[3:])
        assert tables.unread(arguments, arguments.table) == []

"""The reference is what its commands write: options, keys of a configuration file, and schemas that real files meet."""

import json
from pathlib import Path

import pytest

from agent.record.schema import RunRecord
from cao.configuration import TABLES
from cao.console import VERBS
from eval.pages import options, schemas
from eval.pages.schemas import SCHEMAS, file_name, text
from tests.agent import run_folders as made

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs/reference"


def test_the_pages_of_options_and_keys_are_what_the_command_writes(tmp_path: Path) -> None:
    assert options.main(["--out", str(tmp_path)]) == 0
    for name in (options.OPTIONS_PAGE, options.SETTINGS_PAGE):
        again = "run: python -m eval.pages.options"
        assert (tmp_path / name).read_bytes() == (REFERENCE / name).read_bytes(), again


def test_every_command_has_its_options_and_every_table_its_keys() -> None:
    page, keys = options.options_page(), options.settings_page()
    assert [line.removeprefix("## cao ") for line in page.splitlines() if line.startswith("## ")] == list(VERBS)
    assert "| `--task NAME\\|FILE` | a known task, or your own questions |" in page
    assert "### cao trace replay" in page
    assert set(TABLES) < set(options.TABLES)
    assert all(f"## [{name}]" in keys for name in options.TABLES)
    assert '| `accept` | "either", "confident", "any" | `"either"` |' in keys
    assert "| `lora_rank` | integer ≥ 2, ≤ 4,096 |  | r, even |" in keys


def test_the_pages_do_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = options.options_page()
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.argv", ["cao", "run"])
    assert options.options_page() == wide


def test_the_schemas_are_what_the_command_writes(tmp_path: Path) -> None:
    assert schemas.main(["--out", str(tmp_path)]) == 0
    written = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    there = {file.name: file.read_bytes() for file in (ROOT / schemas.FOLDER).glob("*.json")}
    assert written == there, "run: python -m eval.pages.schemas"
    index = (ROOT / schemas.FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({file_name(name)})" in index for name in SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_and_says_its_version(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(text(name))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:cao-llm:{name.replace('-', ':')}"


def test_the_files_of_a_run_meet_their_schemas() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    run = RunRecord.model_validate(made.record("one")).model_dump(mode="json")
    strategy = {"family": "Latent", "slot_steps": 5, "slot_lr": 0.01}
    for name, value in (("run-2", run), ("strategy-1", run["adopted"]), ("strategy-1", None), ("proposal-1", strategy)):
        jsonschema.validate(value, json.loads(text(name)))
    for name, value in (("run-2", {**run, "extra": 1}), ("proposal-1", {**strategy, "slot_steps": 99})):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, json.loads(text(name)))

"""What a run keeps is checked when it is read again: damage is named."""

import io
import json
import random
import shutil
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from agent import trace
from cao.errors import InputError
from cao.files import write_json
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from tests.agent import tiny_pretrained
from tests.agent.loop.started_runs import Started, resume
from tests.agent.run.tiny_runs import result


def flip(path: Path, seed: int) -> None:
    """Change one bit of a file's second half, where contents lie and not headers."""
    data = bytearray(path.read_bytes())
    draw = random.Random(seed)
    data[draw.randrange(len(data) // 2, len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def test_a_changed_adapter_is_named_with_the_command_that_makes_it_again(started: Started, cut: Path) -> None:
    weights = sorted(cut.glob("adapters/*/adapter_model.safetensors"))
    flip(weights[0], 0)
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert str(weights[0]) in err
    words = err.strip().rpartition("python -m agent.trace ")[2].split()
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(io.StringIO()):
        assert trace.main([*words, "--json"]) == 0
    assert result(json.loads(told.getvalue())) == result(started.record)


@pytest.mark.parametrize("seed", range(3))
def test_changed_items_that_are_built_on_are_named_and_kept_answers_are_measured_again(
    started: Started, cut: Path, seed: int
) -> None:
    for path in cut.glob("items/kept-*.jsonl"):
        path.write_text(path.read_text().replace('"loss":1', '"loss":2').replace('"loss":0', '"loss":1'))
    status, out, err = resume(started, shutil.copytree(cut, cut.parent / "again" / cut.name))
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)
    base = cut / "items" / "base.jsonl"
    text = base.read_text()
    digits = [i for i, char in enumerate(text) if char in "12345678"]
    place = random.Random(seed).choice(digits)
    base.write_text(text[:place] + str(int(text[place]) + 1) + text[place + 1 :])
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert f"{base}:" in err
    assert "--from generate" in err


def test_items_whose_end_is_missing_are_named_though_each_line_is_sound(started: Started, cut: Path) -> None:
    base = cut / "items" / "base.jsonl"
    base.write_text("".join(base.read_text().splitlines(keepends=True)[:-1]))
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert f"{base}: its end is missing" in err


def test_a_header_of_which_one_sign_was_changed_is_refused(started: Started, cut: Path) -> None:
    header = cut / "config.json"
    text = header.read_text()
    header.write_text(text.replace('"created": "20', '"created": "30'))
    status, _, err = resume(started, cut)
    assert status == 2
    assert f"{header}: missing or damaged" in err
    older = {key: value for key, value in json.loads(text).items() if key != "content_sha256"}
    write_json(header, older)
    status, out, err = resume(started, cut)
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_number_in_a_checkpoint_is_damage(started: Started, cut: Path, seed: int) -> None:
    with closing(sqlite3.connect(cut / "checkpoints.sqlite")) as connection:
        [(name, row)] = connection.execute(
            "select checkpoint_id, checkpoint from checkpoints order by checkpoint_id desc limit 1"
        )
        place = random.Random(seed).randrange(len(row))
        changed = row[:place] + bytes([row[place] ^ 1]) + row[place + 1 :]
        connection.execute("update checkpoints set checkpoint = ? where checkpoint_id = ?", (changed, name))
        connection.commit()
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert "checkpoints.sqlite: damaged" in err


def test_another_runs_header_is_refused(started: Started, cut: Path) -> None:
    header = json.loads((cut / "config.json").read_text())
    write_json(cut / "config.json", {**header, "run_id": header["run_id"][:-1] + "x"})
    status, _, err = resume(started, cut)
    assert status == 2
    assert "config.json: missing or damaged" in err


def test_an_adapter_that_was_changed_is_written_anew(tmp_path: Path, tiny_model_folder: Path) -> None:
    weights = tiny_pretrained.load(tiny_model_folder).fresh_lora(0)
    folder = Path(save_adapter(tmp_path, weights, "tiny").path)
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError):
        load_adapter(folder)
    save_adapter(tmp_path, weights, "tiny")
    assert adapter_sha256(load_adapter(folder)) == folder.name
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]

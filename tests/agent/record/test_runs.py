import os
from pathlib import Path

import pytest

from agent.record.reading import read_record
from agent.record.runs import find_run, list_runs
from cao.errors import InputError
from tests.agent import run_folders as made


def test_a_folder_of_a_model_or_of_a_training_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("a file", encoding="utf-8")
    configs = {"a-model": '{"model_type": "llama"}', "policy-x": '{"tasks": []}', "torn": '{"run_id": "t'}
    for name, config in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config, encoding="utf-8")
    made.write_run(tmp_path, "one")
    assert {run.run_id for run in list_runs(tmp_path)} == {"one", "torn"}


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    made.write_run(tmp_path, "good")
    (made.write_run(tmp_path, "bad") / "run.json").write_text("{")
    found = {run.run_id: run for run in list_runs(tmp_path)}
    assert (found["good"].status, found["bad"].status) == ("improved", "damaged")
    assert "run.json" in (found["bad"].problem or "")


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for name, created in (
        ("b", "2026-01-02T00:00:00Z"),
        ("c", "2026-01-03T00:00:00Z"),
        ("a", "2026-01-01T00:00:00Z"),
    ):
        made.write_run(tmp_path, name, {**made.record(name), "created": created})
    assert [run.run_id for run in list_runs(tmp_path)] == ["c", "b", "a"]
    assert list_runs(tmp_path / "absent") == []


def test_a_run_is_found_by_its_id_or_an_unambiguous_beginning(tmp_path: Path) -> None:
    for name in ("gsm8k-1", "gsm8k-10", "piqa-7"):
        made.write_run(tmp_path, name)
    assert find_run(tmp_path, "gsm8k-1") == tmp_path / "gsm8k-1"  # an id wins over being a beginning
    assert find_run(tmp_path, "pi") == tmp_path / "piqa-7"
    assert find_run(tmp_path, f"{tmp_path}/piqa-7/") == tmp_path / "piqa-7"
    assert find_run(tmp_path, f"{tmp_path}/piqa-7/../gsm8k-1") == tmp_path / "gsm8k-1"
    with pytest.raises(InputError, match=rf"run piqa-7 lies in {tmp_path}; add --out {tmp_path}"):
        find_run(tmp_path / "elsewhere", f"{tmp_path}/piqa-7")
    with pytest.raises(InputError, match="gsm8k-1, gsm8k-10"):
        find_run(tmp_path, "gsm")
    with pytest.raises(InputError, match=r"the latest are .*piqa-7"):
        find_run(tmp_path, "nothing")


@pytest.mark.parametrize("name", ["..", "../one", "/etc", ".", "", "One", "one\n", "one/", "a" * 65, "öne", "one\x00"])
def test_what_is_no_id_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    made.write_run(tmp_path, "one")
    with pytest.raises(InputError, match="is no run id"):
        find_run(tmp_path, name)


def test_a_run_without_its_result_and_a_copy_under_another_name_are_told_from_damage(tmp_path: Path) -> None:
    unfinished = made.write_unfinished(tmp_path, "a-run", 0)
    with pytest.raises(InputError, match=rf"a-run has not ended; go on with: .* --resume a-run --out {tmp_path}"):
        read_record(unfinished)
    copied = made.write_run(tmp_path, "one").rename(tmp_path / "two")
    with pytest.raises(InputError, match="two: holds run one; give the folder that name"):
        read_record(copied)


def test_a_link_that_leads_elsewhere_is_no_run(tmp_path: Path) -> None:
    made.write_run(tmp_path / "elsewhere", "secret")
    (tmp_path / "runs").mkdir()
    os.symlink(tmp_path / "elsewhere" / "secret", tmp_path / "runs" / "secret")
    assert list_runs(tmp_path / "runs") == []
    with pytest.raises(InputError, match="there are none yet"):
        find_run(tmp_path / "runs", "secret")

"""Bit flips and truncations in the files that runs leave: found by name, or harmless; nothing is silently used."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cao
from agent import export, run, trace
from tests.agent.run.tiny_runs import result
from tests.survival.conftest import Whole
from tests.survival.damage import damage, ended, found, refusal
from tests.survival.deaths import DIED, Death, lived
from tests.survival.records import kept_of, record_of

Tell = Callable[[str], None]
Many = Callable[[int, int], int]
NOT_READ = (".lock", "report.html")


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that anything reads."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_READ)


def shown(folder: Path) -> tuple[str, str, str] | None:
    """Return what a finished run is shown as, by three commands; None where one of them found the damage."""
    out, name = ["--out", str(folder.parent)], folder.name
    told = [ended(trace.main, ["show", name, *out, "--json"]), ended(trace.main, ["list", *out, "--json"])]
    told.append(ended(trace.main, ["html", name, *out]))
    for one in told:
        assert one.status in (0, 2), one.err
        if one.status == 2:
            assert "error: " in one.err
            assert found(one, str(folder)), one.err
            return None
    return told[0].out, told[1].out, (folder / "report.html").read_text()


def test_a_finished_run_is_shown_as_it_was_or_the_damage_is_named(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "runs" / whole.folder.name)
    before, seen = shown(folder), Counter[str]()
    assert before is not None
    for _ in range(many(12, 120)):
        path = draw.choice(files_of(folder))
        whole_bytes = path.read_bytes()
        what = damage(path, draw)
        after = shown(folder)
        assert after in (None, before), what
        seen["found" if after is None else "harmless"] += 1
        path.write_bytes(whole_bytes)
    figure(f"damage to finished runs: {dict(seen)}, none silently used")


def test_an_export_of_a_damaged_run_is_refused_or_the_same(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    folder = shutil.copytree(whole.folder, tmp_path / "runs" / whole.folder.name)

    def exported() -> dict[str, str] | None:
        to = tmp_path / "to"
        shutil.rmtree(to, ignore_errors=True)
        one = ended(export.main, [folder.name, "--out", str(folder.parent), "--to", str(to)])
        if one.status == 0:
            return kept_of(to)
        assert found(one, str(folder)), one.err
        return None

    before, seen = exported(), Counter[str]()
    assert before
    for _ in range(many(4, 30)):
        path = draw.choice([*files_of(folder / "adapter"), folder / "run.json", folder / "answering.json"])
        whole_bytes = path.read_bytes()
        what = damage(path, draw)
        after = exported()
        if path.name != "adapter_config.json":  # what of it this project does not read is copied as it stands
            assert after in (None, before), what
        seen["found" if after is None else "harmless"] += 1
        path.write_bytes(whole_bytes)
    figure(f"damage to runs that are exported: {dict(seen)}, none silently used")


def test_an_exported_folder_answers_as_before_or_the_damage_is_named(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    to = tmp_path / "to"
    assert ended(export.main, [whole.folder.name, "--out", str(whole.folder.parent), "--to", str(to)]).status == 0
    asked = [json.loads(line) for line in (whole.folder / "items" / "questions.jsonl").read_text().splitlines()][:3]

    given: list[object] = []

    def answer() -> None:
        model = cao.load(to, model_path=str(whole.model), offline=True)
        given.append([model.answer(one["question"], choices=list(one["choices"])) for one in asked])

    answer()
    seen = Counter[str]()
    for _ in range(many(3, 40)):
        path = draw.choice([path for path in files_of(to) if path.name != "README.md"])
        whole_bytes = path.read_bytes()
        what = damage(path, draw)
        told = refusal(answer)
        assert str(to) in told if told else given[-1] == given[0], (what, told)
        seen["found" if told else "harmless"] += 1
        path.write_bytes(whole_bytes)
    figure(f"damage to exported folders: {dict(seen)}, none silently used")


def test_a_damaged_run_goes_on_to_the_same_end_or_the_damage_is_named(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    argv = [*whole.argv, "--out", str(tmp_path / "cut")]
    assert lived(run.main, argv, Death(window=int(whole.windows * 0.7))) == DIED
    [cut] = (tmp_path / "cut").glob("[!.]*")
    seen = Counter[str]()
    for n in range(many(2, 50)):
        folder = shutil.copytree(cut, tmp_path / str(n) / cut.name)
        path = draw.choice(files_of(folder))
        what = damage(path, draw)
        one = ended(run.main, [*whole.argv, "--out", str(folder.parent), "--resume", folder.name])
        if one.status == 0:
            assert result(record_of(folder)) == result(whole.record), what
        else:
            assert found(one, str(folder)), (what, one.err)
        seen["found" if one.status else "harmless"] += 1
        shutil.rmtree(folder.parent)
    figure(f"damage to runs that go on: {dict(seen)}, none silently used")


def test_a_damaged_run_is_replayed_to_the_same_end_or_the_damage_is_named(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    seen = Counter[str]()
    for n in range(many(1, 15)):
        folder = shutil.copytree(whole.folder, tmp_path / str(n) / whole.folder.name)
        path = draw.choice(files_of(folder))
        what = damage(path, draw)
        one = ended(trace.main, ["replay", folder.name, "--from", "decide", "--out", str(folder.parent), "--json"])
        if one.status == 0:
            assert result(json.loads(one.out)) == result(whole.record), what
        else:
            assert found(one, str(folder)), (what, one.err)
        seen["found" if one.status else "harmless"] += 1
        shutil.rmtree(folder.parent)
    figure(f"damage to runs that are replayed: {dict(seen)}, none silently used")

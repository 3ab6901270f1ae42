"""Hostile policies, data files and configurations: taken or refused in a line; no crash, no hang, no write outside."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agent import run
from cao.machine.assets import cache_dir
from cao.strategies import FAMILIES
from cao.strategy import parse_strategy
from cao.tasks.files import tables
from cao.tasks.question_file import load_user_task
from policies.grid import grid
from policies.messages import plain_json
from tests.agent.run.tiny_runs import LATENT, strategies
from tests.cao.tasks.files.data_files import FILES
from tests.survival.conftest import Whole
from tests.survival.damage import ended, refusal, refused
from tests.survival.mutations import worse, worse_bytes
from tests.survival.records import record_of
from tests.survival.writes import outside, writes_seen

Tell = Callable[[str], None]
Many = Callable[[int, int], int]
SOON_S = 300
POINTS = [plain_json(point.canonical(), spaced=False) for point in grid(FAMILIES)]


def test_fuzzed_policies_say_strategies_within_bounds_or_are_refused_in_a_line(
    draw: random.Random, many: Many, figure: Tell
) -> None:
    seen = Counter[str]()
    for _ in range(many(1_000, 10_000)):
        raw = worse(draw.choice(POINTS), draw)
        if told := refusal(lambda raw=raw: parse_strategy(raw), SOON_S):  # type: ignore[misc]
            assert told.isprintable(), raw
            seen["refused"] += 1
            continue
        strategy = parse_strategy(raw)
        assert type(strategy).model_validate(strategy.canonical()) == strategy
        seen["taken"] += 1
    assert seen["taken"]
    figure(f"fuzzed policies: {dict(seen)}")


def test_a_run_whose_policy_is_hostile_ends_as_any_other(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    attempts, seen = 100, Counter[str]()
    for n in range(many(1, 10)):
        texts = [worse(draw.choice(POINTS), draw).replace("\n", " ").replace("\r", " ") for _ in range(attempts)]
        hostile = [text for text in texts if text.strip() and refusal(lambda it=text: parse_strategy(it))]  # type: ignore[misc]
        plan = strategies(tmp_path, *hostile, LATENT)  # the last one is not reached
        argv = [*whole.argv, "--out", str(tmp_path / str(n)), "--max-attempts", str(len(hostile))]
        argv += ["--set", f"policy_settings.strategy_file={plan}", "--json"]
        with writes_seen() as changed:
            one = ended(run.main, argv)
        assert one.status == 0, one.err
        record = json.loads(one.out)
        assert len(record["trials"]) == len(hostile)
        assert all(trial["reason"].startswith("rejected: ") for trial in record["trials"])
        assert record == record_of(tmp_path / str(n) / record["run_id"])
        assert outside(changed, cache_dir(), tmp_path) == []
        seen["refused"] += len(hostile)
    figure(f"fuzzed policies in the graph's decide node: {dict(seen)}, in runs of up to {attempts}")


def test_fuzzed_data_files_are_read_or_refused_in_a_line(
    tmp_path: Path, draw: random.Random, many: Many, figure: Tell
) -> None:
    seen = Counter[str]()
    kinds = {what: written(tmp_path / f"kind-{n}", what) for n, what in enumerate(sorted(FILES))}
    for n in range(many(60, 1_000)):
        path = kinds[draw.choice(sorted(kinds))]
        victim = draw.choice([each for each in path.rglob("*") if each.is_file()]) if path.is_dir() else path
        before = victim.read_bytes()
        victim.write_bytes(worse_bytes(before, draw))
        with writes_seen() as changed:
            told = refusal(lambda path=path: asked(path), SOON_S)  # type: ignore[misc]
        assert told.startswith(str(path)) if told else True, (n, told)
        assert "\n" not in told
        assert outside(changed) == [], n
        seen["refused" if told else "read"] += 1
        victim.write_bytes(before)
    figure(f"fuzzed data files of {len(kinds)} kinds: {dict(seen)}")


def asked(path: Path) -> None:
    """Read a file as a task, and ask its questions."""
    task = load_user_task(path)
    for example in task.load():
        assert task.query(example, "text").prefix


def written(folder: Path, what: str) -> Path:
    """Write one of the files that people have, in a folder of its own."""
    name, write, rows, _ = FILES[what]
    folder.mkdir()
    path = folder / name
    write(path, rows)
    return path


CONFIGURATION = """\
task = "{task}"
model = "qwen2.5-0.5b"
model_path = "{model}"
policy = "random"
support = 8
reward = 12
test = 12
max_attempts = 3
accept = "confident"
seed = 7
offline = true
minutes = 5.5
reference = ["piqa", "boolq"]
out = "{out}"

[policy_settings]
temperature = 0.7
top_k = 50
base_url = "http://127.0.0.1:9/v1"
max_requests = 5

[profile]
answer_style = "text"
"""
WORDS = ["--support=8", "--reward=12", "--seed=7", "--accept=any", "--policy=grid", "--set=top_k=3", "--dtype=float32"]


def test_fuzzed_configurations_are_planned_or_refused_in_a_line(
    whole: Whole, tmp_path: Path, draw: random.Random, many: Many, figure: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    questions = shutil.copy(Path(whole.argv[1]), tmp_path / "birds.jsonl")
    good = CONFIGURATION.format(task=questions, model=whole.model, out=tmp_path / "runs")
    file, seen = tmp_path / "cao.toml", Counter[str]()
    for _ in range(many(60, 500)):
        by_words = draw.random() < 0.3
        file.write_bytes(good.encode() if by_words else worse(good, draw).encode("utf-8", "replace"))
        words = [worse(draw.choice(WORDS), draw) for _ in range(2)] if by_words else []
        with writes_seen() as changed:
            one = ended(run.main, ["--config", str(file), "--dry-run", *words], SOON_S)
        usage = one.status == 2 and "usage: " in one.err
        assert one.status == 0 or usage or refused(one), (file.read_bytes(), words, one)
        assert "Traceback" not in one.err
        assert outside(changed, cache_dir(), tmp_path / "data") == [], words
        seen["refused" if one.status else "planned"] += 1
    assert seen["planned"]
    figure(f"fuzzed configurations: {dict(seen)}")


@pytest.mark.parametrize(
    ("length", "copies", "taken"), [(9_000, 1, True), (9_000, 9_000, False), (3_000_000, 9, False)]
)
def test_a_parquet_file_that_unpacks_without_end_is_refused(
    length: int, copies: int, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_UNPACKED_BYTES", 20_000_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * copies, pa.int32()), pa.array(["a" * length]))
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"question": column}), path, compression="zstd")
    assert path.stat().st_size < 50_000
    told = refusal(lambda: load_user_task(path))
    assert told == ("" if taken else f"{path}: {tables.TOO_LARGE}")

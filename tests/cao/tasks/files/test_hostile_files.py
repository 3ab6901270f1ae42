"""Files as hostile input: refused in one line that names the place, or read; never a crash."""

import csv
import io
import json
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks.files.keys import KeyMap
from cao.tasks.prompt_file import read_prompts
from cao.tasks.question_file import load_user_task
from tests.cao.tasks.files.data_files import FILES, LETTERED, MMLU, PIQA, Rows, jsonl, saved, table
from tests.cao.tasks.question_files import GOOD, refusal


def test_a_bad_object_of_an_array_is_named_by_the_line_it_begins_on(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps([GOOD, {**GOOD, "question": "x", "answer": 7}], indent=1))
    assert refusal(path).startswith("10: answer 7 is out of range")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "1: not JSON: the array is not closed"),
        ('[{"question": "q", "answer": "a"}', "1: not JSON: the array is not closed"),
        ('[{"question": "q", "answer": "a"}\n{"question"', "2: not JSON: a comma is missing"),
        ('[{"question": "q", "answer": "a"},,', "1: not JSON: a comma too many"),
        ('[{"question": "q", "answer": "a"}] more', "1: not JSON: more behind the array"),
        ("[1]", "1: expected one JSON object"),
        ("{}", "1: expected an array of objects"),
        ('{"data": [1]}', "1: expected an array of objects"),
        ("nothing", "1: not JSON"),
        ("", "1: not JSON"),
        ("[]", " the file has no questions"),
    ],
)
def test_broken_json_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    assert refusal(path).startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("question,answer\nq,a\nq2\n", "3: 1 cells, the first line names 2 columns"),
        ("question,answer\nq,a,b\n", "2: 3 cells"),
        ("question,question\nq,a\n", "1: column 'question' appears more than once"),
        ('question,answer\nq,"a\n', "2: not CSV: unexpected end of data"),
        ('question,answer\nq,"a"b\n', "2: not CSV"),
        ("question,answer\nq," + "a" * 200_000 + "\n", "2: not CSV: field larger"),
        ("ques\rtion,answer\nq,a\n", "1: not CSV"),
        ("a" * 200_000 + ",answer\nq,a\n", "1: not CSV: field larger"),
        ("what,that\nq,a\n", "2: 'question' is missing; name its key with --map question=KEY, with answer=KEY"),
        ("question,A,B,answer\nq,x,y,C\n", "2: answer 'C' names none of the 2 choices"),
        ("", " the file has no questions"),
    ],
)
def test_broken_csv_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert refusal(path).startswith(reason)


def test_a_record_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('question,A,B,answer\n"one\ntwo\nthree",x,y,A\n"four\nfive",x,y,Z\n')
    assert refusal(path).startswith("5: answer 'Z'")


def test_indexes_that_may_count_from_zero_or_one_are_refused_until_it_is_said(tmp_path: Path) -> None:
    rows: Rows = [{**row, "label": 1, "sol3": "Sing.", "goal": f"{n}"} for n, row in enumerate(PIQA)]
    path = jsonl(tmp_path / "t.jsonl", rows)
    assert "may count from 0 as well as from 1" in refusal(path)
    for base, gold in ((0, "Eat the lid."), (1, "Turn the lid.")):
        assert load_user_task(path, keys=f"answer=label:{base}").load()[0].gold_text == gold


def test_one_wrong_index_does_not_turn_a_file_of_own_names_round(tmp_path: Path) -> None:
    few = [{**GOOD, "question": f"{n}", "answer": 1 + n % 2} for n in range(4)]
    assert "2: answer 2 is out of range" in refusal(jsonl(tmp_path / "few.jsonl", few))
    many = [{**GOOD, "question": f"{n}", "answer": 1 + n % 2} for n in range(40)]
    task = load_user_task(jsonl(tmp_path / "many.jsonl", many))
    assert task.reading
    assert task.reading.answers == "indexes from 1"


@pytest.mark.parametrize("keys", ["question", "ask=x", "question=a,question=b", "="])
def test_a_map_that_cannot_be_understood_is_refused(keys: str) -> None:
    with pytest.raises(InputError, match="--map"):
        KeyMap.parse(keys)


def test_a_key_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--map: no row has the key 'no'; there are No, Question, A"):
        load_user_task(table(",")(tmp_path / "t.csv", LETTERED), keys="question=no")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 60 + b"PAR1", pickle.dumps({"a": 1})])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    assert "not a Parquet file that can be read" in refusal(path)


def test_parquet_of_bytes_and_dates_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"question": ["a", "b"], "answer": [b"x", b"y"]}), path)
    assert refusal(path).startswith("row 1: 'answer' (without choices) must be a text")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("{", "missing or damaged"),
        ("[]", "damaged"),
        ("{}", "not a data set that this version reads"),
        ('{"_data_files": [{"filename": "../data.arrow"}]}', "names a file that is not in the folder"),
        ('{"_data_files": [{"filename": "a\\u0000b"}]}', "names a file that is not in the folder"),
        ('{"_data_files": [3]}', "names a file that is not in the folder"),
        ('{"_data_files": [{"filename": "state.json"}]}', "not an Arrow file that can be read"),
        ('{"_data_files": [], "_indices_files": [1]}', "save it again"),
    ],
)
def test_a_saved_data_set_that_was_changed_is_refused(tmp_path: Path, state: str, reason: str) -> None:
    folder = saved(tmp_path / "t", MMLU)
    (folder / "state.json").write_text(state)
    with pytest.raises(InputError) as caught:
        load_user_task(folder)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link_out_of_a_saved_data_set_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "t", MMLU)
    arrow = next(folder.glob("*.arrow"))
    arrow.rename(tmp_path / "elsewhere.arrow")
    arrow.symlink_to(tmp_path / "elsewhere.arrow")
    with pytest.raises(InputError, match="not in the folder"):
        load_user_task(folder)


NAMES = ["question", "choices", "answer", "context", "options", "label", "messages", "prompt", "A", "B", "text", "x"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "label", "role", "from", "content", "value", "A"]), inner)
    ),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES), max_size=4)


def taken_or_refused(path: Path) -> None:
    """Read a file; nothing but questions or an error of one line may come of it."""
    refused, task = "", None
    with suppress(InputError):
        read_prompts(path)
    try:
        task = load_user_task(path)
    except InputError as error:
        refused = str(error)
    if task is None:
        assert refused.startswith(str(path))
        assert "\n" not in refused
        return
    for example in task.load():
        assert task.grade(task.gold(example), example) or not task.labelled


QUIET = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(ROWS)
def test_any_rows_are_taken_or_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    for name, text in (("t.jsonl", "\n".join(map(json.dumps, rows))), ("t.json", json.dumps(rows))):
        (tmp_path / name).write_text(text)
        taken_or_refused(tmp_path / name)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, NAMES)
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "t.csv").write_text(stream.getvalue(), encoding="utf-8", errors="replace")
    taken_or_refused(tmp_path / "t.csv")


@QUIET
@given(st.sampled_from(sorted(FILES)), st.data())
def test_any_damage_to_a_file_is_taken_or_refused(tmp_path: Path, what: str, data: st.DataObject) -> None:
    name, write, rows, _ = FILES[what]
    place = tmp_path / what.replace(" ", "-")
    path = place / name
    if not path.exists():
        place.mkdir(exist_ok=True)
        write(path, rows)
    victim = next(path.rglob("*.arrow")) if path.is_dir() else path
    whole = victim.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = whole[:at] if data.draw(st.booleans()) else whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 2 :]
    victim.write_bytes(cut)
    try:
        taken_or_refused(path)
    finally:
        victim.write_bytes(whole)


def test_columns_of_any_type_are_taken_or_refused(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "floats": [1.5, float("nan")],
        "lists": [["a", "b"], []],
        "objects": [{"text": "a"}, {"text": None}],
        "bytes": [b"a", b"b"],
        "bools": [True, False],
    }
    path = tmp_path / "t.parquet"
    for one, values in columns.items():
        for role in ("question", "choices", "answer", "label", "messages"):
            Dataset.from_dict({"question": ["q", "r"], "choices": [["a", "b"]] * 2, role: values}).to_parquet(str(path))
            taken_or_refused(path)
            assert one

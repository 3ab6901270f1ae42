"""The command: every kind of file against every other, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cao.errors import InputError
from cao.tasks.base import choice_example
from eval import compare, score
from eval.comparison.answers import Side
from eval.comparison.table_row import read_row
from tests.eval.comparison.files import (
    CHOICES,
    log,
    questions,
    run_folder,
    sample,
    sample_log,
    score_output,
)

ANSWERS = ("yes", "no", "12")
LEFT = [True] * 5 + [False] * 5
RIGHT = [True] * 4 + [False] + [True] * 5


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # the command sets variables for its libraries

    def told(*arguments: str) -> tuple[int, str, str]:
        code = compare.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return told


@pytest.fixture
def refused(call: Any) -> Any:
    def line(*arguments: str) -> str:
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        return str(err)

    return line


@pytest.mark.parametrize("second", ["score", "log", "run", "items"])
@pytest.mark.parametrize("first", ["score", "log", "run", "items"])
def test_every_kind_is_compared_with_every_kind(call: Any, tmp_path: Path, first: str, second: str) -> None:
    def made(kind: str, right: list[bool], name: str) -> str:
        if kind == "score":
            return score_output(tmp_path / f"{name}.json", right)
        if kind == "log":
            return sample_log(tmp_path / name, right)
        path = run_folder(tmp_path, f"20261126-{name}", right)
        return str(path if kind == "run" else path / "items/test-adapted.jsonl")

    code, out, err = call(made(first, LEFT, "aaaa"), made(second, RIGHT, "bbbb"), "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["n"], found["only_a"], found["only_b"]) == (10, 1, 5)
    assert found["mcnemar_p_value"] == pytest.approx(14 / 64)
    assert found["loss"]["n"] == 10
    assert [found[which]["left_out"] for which in "ab"] == [0, 0]


def test_a_table_and_a_sentence_are_printed(call: Any, tmp_path: Path) -> None:
    a, b = score_output(tmp_path / "a.json", LEFT), sample_log(tmp_path / "b", [*RIGHT, True])
    code, out, _ = call(a, b)
    assert code == 0
    plain = " ".join(out.replace("│", " ").split())
    assert "accuracy 50.0 % 90.0 % +40.0 points" in plain
    assert "10 questions matched (10 by question id); 0 of A's and 1 of B's questions left out" in plain
    assert "exact McNemar p = 0.22" in plain


def table(path: Path, **rows: list[bool]) -> Path:
    """A table of eval.tables with rows on one task; no other figure is read."""
    cells = {row: {"animals": {"right": ["".join(str(int(one)) for one in right)]}} for row, right in rows.items()}
    asked = {"animals": [example.id for example in questions(10)]}
    head = {"table": "2", "model": "tiny", "protocol": "likelihood", "questions": asked}
    path.write_text(json.dumps({**head, "rows": {row: {"cells": cell} for row, cell in cells.items()}}, indent=1))
    return path


def test_a_row_of_a_table_is_compared_with_another_and_with_a_run(call: Any, tmp_path: Path) -> None:
    file = table(tmp_path / "table2.json", base=LEFT, maml=RIGHT)
    for other in (f"{file}:maml", str(run_folder(tmp_path, "20261126-bbbb", RIGHT))):
        code, out, err = call(f"{file}:base", other, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["n"], found["only_a"], found["only_b"]) == (10, 1, 5)
        assert found["mcnemar_p_value"] == pytest.approx(14 / 64)


def test_a_table_without_the_row_is_refused_with_what_to_do(refused: Any, tmp_path: Path) -> None:
    file = table(tmp_path / "table2.json", base=LEFT)
    assert f"is a table of several rows; name one: {file}:base" in refused(str(file), f"{file}:base")
    assert "has no row 'maml'; it has base" in refused(f"{file}:base", f"{file}:maml")
    old = tmp_path / "old.json"
    old.write_text(file.read_text().replace('"right"', '"wrong"'))
    assert "a version that did not keep answers made it" in refused(f"{file}:base", f"{old}:base")
    assert "there is no such file" in refused(f"{file}:base", f"{tmp_path}/none.json:base")


def test_a_row_of_several_seeds_has_the_answers_of_all(tmp_path: Path) -> None:
    table = {"table": "2", "model": "tiny", "protocol": "likelihood", "questions": {"a": ["x", "y"], "b": ["z"]}}
    file = tmp_path / "table2.json"

    def row(a: list[str], b: list[str]) -> Side:
        file.write_text(json.dumps({**table, "rows": {"base": {"cells": {"a": {"right": a}, "b": {"right": b}}}}}))
        return read_row(file, "base")

    assert [one.correct for one in row(["10"], ["1"]).answers] == [(True,), (False,), (True,)]
    assert [one.correct for one in row(["10", "11"], ["1", "0"]).answers] == [
        (True, True),
        (False, True),
        (True, False),
    ]
    with pytest.raises(InputError, match="base has tasks of 1 and of 2 seeds; they do not mix"):
        row(["10"], ["1", "0"])
    with pytest.raises(InputError, match="which questions of a base answers rightly is not there"):
        row(["10", "1"], ["1", "0"])


def test_rows_of_several_seeds_are_compared_over_all(call: Any, tmp_path: Path) -> None:
    file = table(tmp_path / "table2.json", base=LEFT, maml=RIGHT)
    both = json.loads(file.read_text())
    both["rows"]["maml"]["cells"]["animals"]["right"] *= 2
    file.write_text(json.dumps(both))
    code, out, _ = call(f"{file}:base", f"{file}:maml")
    plain = " ".join(out.replace("│", " ").split())
    assert code == 0
    assert "likelihood, its own answer rule likelihood, its own answer rule, mean of 2 seeds" in plain
    assert "bootstrap of questions and 2 seeds, p = " in plain


def test_a_run_is_found_by_its_id_and_its_baseline_by_its_file(call: Any, tmp_path: Path) -> None:
    path = run_folder(tmp_path, "20261126-aaaa", RIGHT)
    code, out, _ = call(str(path / "items/test-baseline.jsonl"), "20261126-aa", "--out", str(tmp_path), "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["only_a"], found["only_b"]) == (0, 9)
    assert found["verdict"].startswith("B answers more of the 10 questions right than A")


def test_a_real_score_against_itself_does_not_differ(
    call: Any, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tmp_path / "animals.jsonl"
    rows = [{"question": f"Can bird {i} fly?", "choices": list(ANSWERS), "answer": i % 3} for i in range(12)]
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured = ["--task", str(asked), "--model-path", str(tiny_model_folder), "--offline", "--dtype", "bfloat16"]
    assert score.main([*measured, "--json"]) == 0
    path = tmp_path / "score.json"
    path.write_text(capsys.readouterr().out)
    found = json.loads(call(str(path), str(path), "--json")[1])
    assert (found["n"], found["accuracy_change"], found["accuracy_ci95"]) == (12, 0.0, [0.0, 0.0])
    assert found["mcnemar_p_value"] == 1.0
    assert found["loss"] == {"n": 12, "change": 0.0, "ci95": [0.0, 0.0], "p_value": 1.0}
    # the same questions in the harness's log have the same ids, though eval.score tells no texts
    examples = [choice_example(row["question"], row["choices"], row["answer"]) for row in rows]
    lines = [sample(i, example, True) for i, example in enumerate(examples)]
    for line, example in zip(lines, examples, strict=True):
        prompt = line["arguments"]["gen_args_0"]["arg_0"]
        line["arguments"] = {f"gen_args_{k}": {"arg_0": prompt, "arg_1": f" {c}"} for k, c in enumerate(ANSWERS)}
        line["filtered_resps"] = [[str(-1.0 - (k != example.answer)), "False"] for k in range(3)]
    assert json.loads(call(str(path), log(tmp_path / "log", lines), "--json")[1])["n"] == 12


@pytest.mark.parametrize(("metric", "lls", "change"), [("acc", [-4.0, -5.0], True), ("acc_norm", [-4.0, -5.0], False)])
def test_scores_follow_the_metric(call: Any, tmp_path: Path, metric: str, lls: list[float], change: bool) -> None:
    """The first answer has 2 characters, the second 10: by character the second is likelier."""
    examples = [choice_example(f"Which number {i}?", ("no", "certainly!"), 0) for i in range(8)]
    told = {"filtered_resps": [[str(ll), "False"] for ll in lls], "acc": 1.0, "acc_norm": 0.0}
    path = log(tmp_path / "log", [sample(i, example, True, **told) for i, example in enumerate(examples)])
    found = json.loads(call(path, path, "--metric", metric, "--json")[1])
    assert found["a"]["accuracy"] == float(change)
    assert found["a"]["log_loss"] == pytest.approx(0.1053605 if change else 0.6931472)  # −ln .9, ln 2
    assert found["a"]["rule"] == f"{metric}, filter none"


def test_a_written_answer_is_compared_by_accuracy_under_a_filter_that_is_chosen(
    call: Any, refused: Any, tmp_path: Path
) -> None:
    rows = []
    for i, example in enumerate(questions(4)):
        asked = {"gen_args_0": {"arg_0": f"Question: {example.question}\nAnswer:", "arg_1": {"until": ["\n"]}}}
        for name, right in (("strict-match", 0.0), ("flexible-extract", 1.0)):
            written = {"metrics": ["exact_match"], "filter": name, "exact_match": right, "arguments": asked}
            rows.append(sample(i, example, True, filtered_resps=["7"], target="7", **written))
    path = log(tmp_path / "log", rows)
    assert "has several filters (strict-match, flexible-extract); choose one with --filter" in refused(path, path)
    assert "has no filter 'other'" in refused(path, path, "--filter", "other")
    other = score_output(tmp_path / "a.json", [False] * 4)
    found = json.loads(call(other, path, "--filter", "flexible-extract", "--json")[1])
    assert (found["n"], found["accuracy_change"], found["loss"]) == (4, 1.0, None)


def test_prompts_with_examples_before_them_and_documents_of_other_shapes_are_recognised(
    call: Any, tmp_path: Path
) -> None:
    examples = questions(2)
    rows = [sample(i, example, True) for i, example in enumerate(examples)]
    shots = "Question: Is it?\nAnswer: yes\n\n" + f"Question: {examples[0].question}\nAnswer:"
    rows[0] |= {"doc": {"sentence": "…"}}
    rows[0]["arguments"] = {f"gen_args_{k}": {"arg_0": shots, "arg_1": f" {c}"} for k, c in enumerate(CHOICES)}
    rows[1] |= {"doc": {"question": examples[1].question, "choices": {"text": list(CHOICES), "label": ["A", "B"]}}}
    found = json.loads(call(score_output(tmp_path / "a.json", [True] * 2), log(tmp_path / "l", rows), "--json")[1])
    assert found["n"] == 2


def test_what_is_no_set_of_answers_is_refused_in_one_line(refused: Any, tmp_path: Path) -> None:
    good = score_output(tmp_path / "good.json", LEFT)
    text = Path(good).read_text()
    for name, content, told in (
        ("empty", "", "is none of"),
        ("words", "hello\n", "is none of"),
        ("other", '{"rows": []}\n', "is none of"),
        ("list", "[" * 100_000, "is none of"),
        ("deep", '{"items": ' + "[" * 100_000, "damaged"),
        ("broken", text[:-20], "damaged"),
        ("nan", text.replace("-1.0", "NaN"), "damaged; items.0.scores"),
        ("infinite", text.replace("-1.0", "1e999"), "damaged; items.0.scores"),
        ("large", text.replace("-1.0", "1e200"), "not finite, or too large"),
        ("nogold", text.replace('"gold": 1', '"gold": 7'), "the right choice is 7"),
        ("word", text.replace('"correct": true', '"correct": "yes"'), "items.0.correct"),
        ("nothing", '{"task": "a", "model": "b", "protocol": "generate", "items": []}', "no question in common"),
    ):
        path = tmp_path / name
        path.write_text(content)
        line = refused(good, str(path))
        assert told in line, (name, line)
        assert len(line) < 500
    (tmp_path / "bytes").write_bytes(b'{"items": "\xff\xfe"}\n')
    assert "damaged" in refused(good, str(tmp_path / "bytes"))
    assert "there is no such file" in refused(good, str(tmp_path / "nowhere.json"))
    assert "is no run's folder" in refused(good, str(tmp_path))
    assert "cannot be read" in refused(good, "x/" + "a" * 5000)
    assert "is no file" in refused(good, os.devnull)
    assert "neither side is one" in refused(good, good, "--metric", "acc")


def test_an_answer_given_twice_is_refused(refused: Any, tmp_path: Path) -> None:
    example = questions(1)[0]
    twice = score_output(tmp_path / "a.json", [True, False], examples=[example, example])
    assert f"the question {example.id} is answered twice" in refused(twice, twice)
    logged = log(tmp_path / "log", [sample(0, example, True)] * 2)
    assert "the question doc_id 0 is answered twice" in refused(logged, logged)


def test_questions_of_another_task_are_refused_with_both_counts(refused: Any, tmp_path: Path) -> None:
    others = [choice_example(f"Another question {i}?", CHOICES, 0) for i in range(3)]
    a, b = score_output(tmp_path / "a.json", LEFT), score_output(tmp_path / "b.json", LEFT[:3], examples=others)
    line = refused(a, b)
    assert f"{a} (10 questions) and {b} (3 questions) have no question in common" in line


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"filtered_resps": [["nan", "False"], ["-1", "False"]]}, "a log-likelihood is not finite"),
        ({"filtered_resps": [["-inf", "False"], ["-1", "False"]]}, "a log-likelihood is not finite"),
        ({"filtered_resps": [["much", "False"], ["-1", "False"]]}, "a log-likelihood is no number"),
        ({"filtered_resps": [["-1", "False"]]}, "2 requests have 1 replies"),
        ({"filtered_resps": [["-1e300", "False"], ["-1", "False"]]}, "too large to be one"),
        ({"acc": 0.3}, "acc does not say whether the answer is right; what does: acc_norm"),
        ({"metrics": ["bleu"], "bleu": 0.31}, "acc does not say"),
        ({"arguments": 3}, "damaged; arguments"),
        ({"doc_id": "x"}, "damaged; doc_id"),
    ],
)
def test_a_damaged_line_of_a_log_is_named(refused: Any, tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    rows = [sample(i, example, True) for i, example in enumerate(questions(2))]
    path = log(tmp_path / "log", [rows[0], rows[1] | changed])
    line = refused(path, path)
    assert told in line
    assert f"{path}:2: " in line


def test_a_run_that_cannot_be_judged_says_why(refused: Any, tmp_path: Path) -> None:
    good = score_output(tmp_path / "good.json", LEFT)
    path = run_folder(tmp_path, "20261126-aaaa", LEFT)
    items = path / "items/test-adapted.jsonl"
    lines = items.read_text().splitlines(keepends=True)
    items.write_text("".join(lines[:-1]))
    assert "it holds 9 answers, and run.json tells of 10" in refused(good, str(path))
    items.write_text("".join([lines[0].replace("0.5", "0.6"), *lines[1:]]))
    assert "its content does not match its hash" in refused(good, str(path))
    told = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(told | {"test": None}))
    assert "no known answers" in refused(good, str(path))
    (path / "run.json").unlink()
    assert "the run is not finished; go on with python -m agent.run --resume 20261126-aaaa" in refused(good, str(path))

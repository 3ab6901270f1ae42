"""The tasks to practise on: their tables, their conversions on hand-made rows, and all of their questions."""

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cao.errors import InputError, UnavailableError
from cao.tasks import PRACTICE, TASKS, get_task, practice
from cao.tasks.base import LETTERS, Task, normalise, read_id
from cao.tasks.practice import gym, subjects, table
from cao.tasks.splits import SHARES, part, split
from cao.types import ID_PATTERN, Branch, Example


@functools.cache
def loaded(name: str) -> Task:
    """A task whose source is read once."""
    examples = get_task(name).load()
    return replace(get_task(name), load=lambda: examples)


# The tables


def test_there_are_enough_tasks_without_the_extra_and_no_name_is_taken_twice() -> None:
    assert len(practice.EMBEDDED) >= 40
    assert len(practice.EMBEDDED) == len(table.TASKS) + len(subjects.TASKS)
    assert not PRACTICE.keys() & TASKS.keys()
    assert not practice.EMBEDDED.keys() & practice.GENERATED.keys()
    assert all(ID_PATTERN.match(name) and task.name == name for name, task in PRACTICE.items())


def test_every_entry_has_a_licence_and_a_description_of_three_to_five_sentences() -> None:
    lets_everybody_use_them = {"ODC-By", "Apache-2.0", "BSD 2-Clause", "CC BY 4.0"}
    assert {source.licence for source in table.SOURCES} <= lets_everybody_use_them
    assert all("(" in task.source for task in PRACTICE.values())
    assert all(3 <= task.description.count(". ") + 1 <= 5 for task in PRACTICE.values())
    assert not any("\n" in task.description or "  " in task.description for task in PRACTICE.values())
    assert len({task.description for task in PRACTICE.values()}) == len(PRACTICE)


def test_every_subject_of_a_group_with_a_train_part_is_a_task_and_says_whose_questions_it_has() -> None:
    groups = {name for name, task in TASKS.items() if name.startswith("mmlu_") and task.has_train}
    assert {group.name for group in subjects.GROUPS} == groups
    assert len(subjects.TASKS) == 50
    assert "mmlu_philosophy_subject" in PRACTICE
    assert set(practice.SAME_QUESTIONS) == {task.name for task in subjects.TASKS}
    assert practice.SAME_QUESTIONS["mmlu_astronomy"] == ("mmlu_physics",)


def test_a_practice_task_is_found_by_name_and_close_names_are_suggested() -> None:
    assert get_task("basic_skills_pattern") is PRACTICE["basic_skills_pattern"]
    assert get_task("reasoning_gym_gcd") is PRACTICE["reasoning_gym_gcd"]
    with pytest.raises(InputError, match="did you mean mmlu_astronomy"):
        get_task("mmlu_astronomi")
    with pytest.raises(InputError, match="known: ") as raised:
        get_task("zzzz")
    assert "gsm8k" in str(raised.value)
    assert "astronomy" not in str(raised.value)


def test_the_name_of_a_practice_task_is_not_a_users_file(tmp_path: Path) -> None:
    (tmp_path / "copa.jsonl").write_text('{"question": "Q?", "choices": ["a", "b"], "answer": 0}\n')
    assert get_task(str(tmp_path / "copa.jsonl")).name == "copa-file"


# Conversions


def test_a_question_of_the_basic_skills_is_continued_by_its_choices() -> None:
    source = next(source for source in table.SOURCES if source.name == "basic_skills_arithmetic")
    one = source.convert({"id": "0", "question": "4 * 8 =", "choices": ["40", "32"], "gold": 1})
    query = source.template(one)
    assert (query.prefix, query.branches) == ("4 * 8 =", (Branch(scored=" 40"), Branch(scored=" 32")))
    assert one.gold_text == "32"


def test_copycolors_gives_its_listed_choices_back() -> None:
    query = "Question: Snow is white. What color is snow?\n A. yellow\n B. white\n C. light blue\nAnswer:"
    source = next(source for source in table.SOURCES if source.name == "copycolors")
    one = source.convert({"id": 1, "query": query, "choices": ["A", "B", "C"], "gold": 1})
    assert (one.question, one.choices) == ("Snow is white. What color is snow?", ("yellow", "white", "light blue"))
    assert one.gold_text == "white"


@pytest.mark.parametrize(
    ("asked", "words"), [("cause", "What was the cause of this?"), ("effect", "What happened as a result?")]
)
def test_copa_asks_for_the_cause_or_the_effect(asked: str, words: str) -> None:
    row = {"premise": "He fell.", "choice1": "It was wet.", "choice2": "It was dry.", "question": asked, "label": 1}
    source = next(source for source in table.SOURCES if source.name == "copa")
    one = source.convert(row)
    assert (one.question, one.choices, one.answer) == (f"He fell. {words}", ("It was wet.", "It was dry."), 1)


def test_questions_about_one_paper_go_to_one_part() -> None:
    source = next(source for source in table.SOURCES if source.name == "qasper_yesno")
    rows = [
        {"title": "Paper", "source": passage, "question": question, "choices": ["Yes", "No"], "gold": 0}
        for passage, question in (("We did.", "Did they?"), ("We had.", "Had they?"))
    ]
    one, other = map(source.convert, rows)
    assert one.id != other.id
    assert one.group == other.group
    assert source.template(one).prefix == "We did.\nQuestion: Did they?\nAnswer:"


# The generators


def credit(answer: str, entry: dict[str, str]) -> float:
    """A scorer that takes a sum however it is written, and gives half for being near."""
    try:
        away = abs(float(answer) - float(entry["answer"]))
    except ValueError:
        return 0.0
    return 1.0 if away == 0 else 0.5 if away < 2 else 0.01


def test_distractors_are_other_answers_that_the_scorer_calls_wrong() -> None:
    entry = {"question": "2 + 2 =", "answer": "4"}
    one = gym.convert(entry, ["4", "4.0", "5", "7", "7", "9", "123456", "11"], 4, credit)
    assert one is not None
    assert one.gold_text == one.choices[one.answer] == "4"
    assert set(one.choices) == {"4", "7", "9", "11"}  # not 4.0 and 5; 123456 only for want of shorter ones
    assert one == gym.convert(entry, ["4", "4.0", "5", "7", "7", "9", "123456", "11"], 4, credit)
    assert one.group == read_id("2 + 2 =")


def test_a_question_without_enough_distractors_or_with_a_wrong_answer_is_left_out() -> None:
    assert gym.convert({"question": "2 + 2 =", "answer": "4"}, ["4", "5", "7", "3"], 4, credit) is None
    assert gym.convert({"question": "2 + 2 =", "answer": "four"}, ["7", "8", "9", "10"], 4, credit) is None


def test_without_the_extra_the_error_names_it() -> None:
    code = (
        "import sys; sys.modules['reasoning_gym'] = None\n"
        "from cao.tasks import get_task\n"
        "try: get_task('reasoning_gym_gcd').load()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{UnavailableError.__name__} practising on made questions needs the extra ")
    assert "'.[practice]'" in done.stdout


@pytest.mark.parametrize("name", ["gcd", "syllogism", "spell_backward"])
def test_generated_questions_have_choices_that_are_judged_as_they_are_labelled(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    data = gym.generated(name)
    entries = {entry["question"].strip(): entry for entry in data}
    examples = gym.load(name)
    assert len(examples) > 1000
    for example in examples:
        scores = [data.score_answer(choice, entries[example.question]) for choice in example.choices]
        assert [score >= 1 for score in scores] == [i == example.answer for i in range(len(scores))]
    assert gym.load(name) == examples
    split(replace(PRACTICE[f"reasoning_gym_{name}"], load=lambda: examples), support=32, reward=200, test=200, seed=0)


@pytest.mark.slow
def test_the_generators_do_not_depend_on_the_order_of_a_set_and_print_nothing() -> None:
    pytest.importorskip("reasoning_gym")
    code = (
        "import hashlib\n"
        "from cao.tasks.practice import gym\n"
        "first = {name: [gym.generated(name)[i] for i in range(10)] for name in gym.GENERATORS}\n"
        "for name, entries in first.items():\n"
        "    text = repr([(entry['question'], entry['answer']) for entry in entries])\n"
        "    print(name, hashlib.sha256(text.encode()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.splitlines()
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert [line.split()[0] for line in runs[0]] == list(gym.GENERATORS)


# All questions of all embedded practice tasks


@pytest.mark.integration
@pytest.mark.parametrize("source", table.SOURCES, ids=lambda source: source.name)
def test_the_table_states_how_many_rows_there_are(source: table.Source) -> None:
    assert len(source.read(source.stored)) == source.rows


@pytest.mark.integration
@pytest.mark.parametrize("name", practice.EMBEDDED)
def test_every_question_is_sound(name: str) -> None:
    task = loaded(name)
    examples = task.load()
    assert len(examples) >= 60
    assert examples == get_task(name).load()
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        assert example.prompt.strip()
        assert 0 <= example.answer < len(example.choices)
        assert len(set(example.choices)) == len(example.choices) >= 2
        assert all(choice == choice.strip() != "" for choice in example.choices)
        for query in (task.query(example, "text"), task.query(example, "letter")):
            assert len(query.branches) == len(example.choices) <= len(LETTERS)
            assert query.prefix == query.prefix.strip() != ""
        assert task.grade(task.gold(example), example)
    assert not any(e.question in task.description for e in examples if len(e.question.split()) > 3)


@pytest.mark.integration
@pytest.mark.parametrize(
    "name",
    [
        *("basic_skills_arithmetic", "basic_skills_coding", "basic_skills_common_knowledge", "sciriff_yesno"),
        *("basic_skills_logical_reasoning", "basic_skills_string_operations", "mmlu_professional_law"),
    ],
)
def test_the_large_ones_have_questions_for_a_whole_situation(name: str) -> None:
    drawn = split(loaded(name), support=32, reward=200, test=200, seed=0)
    parts = [{e.group for e in side} for side in (drawn.support, drawn.reward, drawn.test)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


@pytest.mark.integration
def test_a_question_that_a_practice_task_shares_is_in_the_same_part_of_both_and_most_sharing_is_stated() -> None:
    others = sorted({other for stated in practice.SAME_QUESTIONS.values() for other in stated})
    homes: dict[str, dict[str, set[str]]] = {}
    for name in others:
        for place in SHARES:
            for example in part(loaded(name), place):
                homes.setdefault(_asked(example), {}).setdefault(name, set()).add(place)
    for name in practice.EMBEDDED:
        stated = practice.SAME_QUESTIONS.get(name, ())
        shared = dict.fromkeys(others, 0)
        for place in SHARES:
            for example in part(loaded(name), place):
                for other, places in homes.get(_asked(example), {}).items():
                    shared[other] += 1
                    assert other not in stated or place in places, example
        size = len(loaded(name).load())
        assert {other for other, count in shared.items() if count > 0.05 * size} == set(stated), name
        assert not stated or shared[stated[0]] == size


def _asked(example: Example) -> str:
    return normalise(example.prompt)

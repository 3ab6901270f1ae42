"""Tasks whose questions are the same problems with other names and numbers: what learnt from one has seen the other."""

from collections.abc import Iterable

SAME_PROBLEMS: tuple[frozenset[str], ...] = (frozenset({"gsm8k", "reasoning_gym_gsm_symbolic"}),)
"""GSM-Symbolic's templates are test problems of GSM8K (Mirzadeh et al. 2024, arXiv 2410.05229)."""


def same_problems(task: str | None) -> frozenset[str]:
    """Return a task with all tasks of its problems; nothing for prompts of no known task."""
    if task is None:
        return frozenset()
    return next((tasks for tasks in SAME_PROBLEMS if task in tasks), frozenset({task}))


def saw(task: str | None, sources: Iterable[str]) -> bool:
    """Return whether a task's problems, in these words or others, are in a source."""
    return not same_problems(task).isdisjoint(sources)


def kept_from(task: str | None, sources: Iterable[str], leaves_out: Iterable[str]) -> bool:
    """Return whether what learnt from sources was kept from a task's problems on purpose, in all words they have."""
    return not same_problems(task).isdisjoint(leaves_out) and not saw(task, sources)

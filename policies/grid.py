"""A grid over the strategies: what an exhaustive search tries, and the arms of a bandit.

Source: CAO-LLM G.6 (families and keys) and its table of best choices, which is among the points; the grid is this
project's.
"""

from collections.abc import Iterable

from cao.strategies import FAMILIES, Strategy


def grid(families: Iterable[str]) -> list[Strategy]:
    """Return the grid's points of some families, cheap families first.

    Args:
        families: names.
    """
    wanted = set(families)
    chosen = [family for name, family in FAMILIES.items() if name in wanted]
    return [point for family in sorted(chosen, key=lambda family: family.effort) for point in family.grid()]


def papers_choice(task: str) -> Strategy | None:
    """Return what the paper found best for a task, None where it does not speak of it.

    Args:
        task: its name; ``arc_challenge`` and the like.

    Source: CAO-LLM G, table of best choices.
    """
    return next((family.papers_numbers() for family in FAMILIES.values() if task in family.papers_tasks), None)

"""How large a table is: ``quick`` for a working day on two cores, ``full`` for what a claim should rest on."""

from cao.types import Record
from eval.baselines.baseline import Budget
from eval.options import TablesOptions

GRID: tuple[float, ...] = Budget.model_fields["rates"].default


class Size(Record):
    """A preset.

    Attributes:
        seeds: choices of the questions that methods read.
        reward: reward questions of a task.
        limit: test questions of a task at most.
        share: of the tokens that the generator read in training: what a baseline may read in its preparation.
        adapting: share of ten steps on 25 questions: what it may read of the target.
        rates: that a baseline may choose from, on train questions; a single one is not searched for.
    """

    seeds: tuple[int, ...]
    reward: int
    limit: int
    share: float
    adapting: float
    rates: tuple[float, ...]


SIZES = {
    "quick": Size(seeds=(0,), reward=96, limit=100, share=0.1, adapting=0.5, rates=(3e-4,)),
    "full": Size(seeds=(0, 1, 2), reward=96, limit=200, share=1.0, adapting=1.0, rates=GRID),
}


def allowed(preset: str, whole: Budget) -> Budget:
    """Return what a baseline may spend in a table of some size.

    Args:
        preset: of the table.
        whole: what the generator took, and ten steps.
    """
    size = SIZES[preset]
    return Budget(
        preparing=round(size.share * whole.preparing),
        adapting=round(size.adapting * whole.adapting),
        steps=max(1, round(size.adapting * whole.steps)),
        targets=whole.targets,
        rates=size.rates,
    )


def sized(options: TablesOptions) -> TablesOptions:
    """Return the options with the preset's sizes where the command or the file states none."""
    size = SIZES[options.preset]
    given = options.model_fields_set
    stated = {"seeds": size.seeds, "reward": size.reward, "limit": size.limit}
    return options.model_copy(update={name: value for name, value in stated.items() if name not in given})

"""How large a table is: ``quick`` for a working day on two cores, ``full`` for what a claim should rest on."""

from cao.types import Record
from eval.options import TablesOptions


class Size(Record):
    """A preset.

    Attributes:
        seeds: choices of the questions that methods read.
        reward: reward questions of a task.
        limit: test questions of a task at most.
        share: of the tokens that the generator read in training: what a baseline may read in its preparation.
        checkpoints: whether sources' checkpoints that are not at hand are trained, an hour each on two cores.
    """

    seeds: tuple[int, ...]
    reward: int
    limit: int
    share: float
    checkpoints: bool


SIZES = {
    "quick": Size(seeds=(0,), reward=96, limit=100, share=0.1, checkpoints=False),
    "full": Size(seeds=(0, 1, 2), reward=96, limit=200, share=1.0, checkpoints=True),
}


def sized(options: TablesOptions) -> TablesOptions:
    """Return the options with the preset's sizes where the command or the file states none."""
    size = SIZES[options.preset]
    given = options.model_fields_set
    stated = {"seeds": size.seeds, "reward": size.reward, "limit": size.limit}
    return options.model_copy(update={name: value for name, value in stated.items() if name not in given})

"""Table 4: sparsity, L1, L2 and maximum of what each method adds to the weights.

Source: CAO-LLM Table 4, B.2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cao.model.adapters import adapter_sha256
from cao.model.cosines import Array
from cao.progress import Progress
from eval.generation.bootstrap import interval
from eval.options import TablesOptions
from eval.paper.adapters.gradients import SHARED_MODULES
from eval.paper.adapters.published import SIZES
from eval.paper.adapters.results import Difference, SizeRow, Stated, Table4Result
from eval.paper.adapters.sizes import ABSOLUTE, RELATIVE, Sizes, part_of, sizes
from eval.paper.adapters.stock import ALIGNED, CENTRE, CHECKPOINT, GENERATED, MAML, MAML_ADAPTED, TITLES, Stock
from eval.paper.adapters.verdicts import sparser
from eval.paper.reasons import reason
from eval.policies.verdicts import Picks

ALIGNED_SHARED = "aligned_shared"
"""The aligned adapter on the modules that MAML-en-LLM trains: what both have can be held against each other."""

KINDS = (CENTRE, GENERATED, ALIGNED, ALIGNED_SHARED, MAML, MAML_ADAPTED, CHECKPOINT)
NAMED = {**TITLES, ALIGNED_SHARED: f"{TITLES[ALIGNED]}, q, v and o alone"}
PAPERS = {ALIGNED: "cao", MAML_ADAPTED: "maml"}
"""Kind → the paper's row that stands beside it: what each method ends with."""

THRESHOLDS = {
    "absolute": f"below {ABSOLUTE:g}",
    "relative": f"below {100 * RELATIVE:g} % of the adapter's root mean square",
}


@dataclass(frozen=True)
class Measured:
    """The adapters of one kind.

    Attributes:
        sizes: task → of each seed.
        absent: task → why it has none.
    """

    sizes: dict[str, list[Sizes]]
    absent: dict[str, str]

    def values(self, of: Callable[[Sizes], float], tasks: Sequence[str]) -> Array:
        """Return (T, S) of one figure."""
        return np.array([[of(each) for each in self.sizes[task]] for task in tasks], dtype=np.float64)


def _kind(stock: Stock, kind: str, tasks: Sequence[str], seeds: Sequence[int], progress: Progress) -> Measured:
    found, absent = dict[str, list[Sizes]](), dict[str, str]()
    for done, task in enumerate(tasks, 1):
        try:
            found[task] = [_of(stock, kind, task, seed) for seed in seeds]
        except Exception as error:  # noqa: BLE001  (any defect is told, with the command that shows it)
            absent[task] = reason(error, f"{stock.command} --tasks {task}")
        progress(f"sizes, {NAMED[kind]}", done, len(tasks))
    return Measured(found, absent)


def _of(stock: Stock, kind: str, task: str, seed: int) -> Sizes:
    if kind == ALIGNED_SHARED:
        weights = part_of(stock.make(ALIGNED, task, seed), SHARED_MODULES)
    else:
        weights = stock.make(kind, task, seed)
    depends_on = {"adapter": adapter_sha256(weights), "absolute": ABSOLUTE, "relative": RELATIVE}
    return stock.kept.record("sizes", depends_on, Sizes, lambda: sizes(weights))  # tasks may share an adapter


def stated(values: Array) -> Stated:
    """Return the mean of (T, S) values with its interval: tasks drawn, and seeds within each."""
    low, high = interval(Picks(*values.shape).means(values))
    return Stated(mean=_short(float(values.mean())), ci95=(_short(low), _short(high)))


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def row(kind: str, found: Measured) -> SizeRow:
    """Return a row of the table."""
    tasks = tuple(found.sizes)
    first = found.sizes[tasks[0]][0] if tasks else None

    def mean(of: Callable[[Sizes], float]) -> Stated | None:
        return stated(found.values(of, tasks)) if tasks else None

    shares = {"absolute": mean(lambda each: each.absolute), "relative": mean(lambda each: each.relative)}
    return SizeRow(
        title=NAMED[kind],
        tasks=tasks,
        weights=first.weights if first else 0,
        sparsity={name: share for name, share in shares.items() if share},
        l1=mean(lambda each: each.l1),
        l2=mean(lambda each: each.l2),
        largest=mean(lambda each: each.largest),
        spread=mean(lambda each: each.spread),
        factors=mean(lambda each: each.factors),
        absent=found.absent,
        paper=SIZES[PAPERS[kind]] if kind in PAPERS else None,
    )


def difference(first: Measured, second: Measured, of: Callable[[Sizes], float], what: str) -> Difference | None:
    """Return by how much a figure of one kind exceeds that of another, on the tasks that both have."""
    common = [task for task in first.sizes if task in second.sizes]
    if not common:
        return None
    found = stated(first.values(of, common) - second.values(of, common))
    return Difference(what=what, value=found.mean, ci95=found.ci95, n=len(common))


def result(
    setting: Mapping[str, object], stock: Stock, options: TablesOptions, tasks: Sequence[str], progress: Progress
) -> Table4Result:
    """Measure the table; arguments as in ``table3.result``."""
    found = {kind: _kind(stock, kind, tasks, options.seeds, progress) for kind in KINDS}
    pairs = {
        name: difference(
            found[ALIGNED_SHARED],
            found[MAML_ADAPTED],
            of,
            f"sparsity ({THRESHOLDS[name]}), {NAMED[ALIGNED_SHARED]}, minus {NAMED[MAML_ADAPTED]}",
        )
        for name, of in _SHARES.items()
    }
    rows = {kind: row(kind, each) for kind, each in found.items()}
    reads = stock.meta.spent([task for task in rows[ALIGNED].tasks if task in rows[MAML_ADAPTED].tasks])
    verdict = sparser(pairs["relative"], pairs["absolute"], rows[MAML_ADAPTED], str(setting["command"]), reads)
    return Table4Result.model_validate(
        {
            **setting,
            "thresholds": THRESHOLDS,
            "rows": rows,
            "differences": tuple(each for each in pairs.values() if each),
            "verdicts": (verdict,),
        }
    )


_SHARES: dict[str, Callable[[Sizes], float]] = {
    "absolute": lambda each: each.absolute,
    "relative": lambda each: each.relative,
}

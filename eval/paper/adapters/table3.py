"""Table 3 and Figure 2: how alike the gradients of different tasks are, where each method starts.

Source: CAO-LLM Table 3, Figure 2, B.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cao.inference.answer_loss import answer_rows
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.cosines import Array, cosines
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.splits import Part, choose, part
from cao.types import Example
from eval.generation.bootstrap import REPETITIONS, interval
from eval.generation.cosines import halves
from eval.options import TablesOptions
from eval.paper.adapters.gradients import SHARED_MODULES, gradient, mean_gradient, pair_means, products
from eval.paper.adapters.published import COSINES
from eval.paper.adapters.results import Alike, Difference, GradientRow, Table3Result
from eval.paper.adapters.stock import ALIGNED, CENTRE, GENERATED, MAML, MAML_ADAPTED, START, TITLES, Stock, about
from eval.paper.adapters.verdicts import more_alike
from eval.paper.reasons import reason

BATCH, ROW_TOKENS = 4, 128
PART: Part = "reward"
"""Questions of a gradient; tokens of one, at most; the part they are from: labelled, and not what is reported on."""

KINDS = (START, CENTRE, GENERATED, ALIGNED, MAML, MAML_ADAPTED)
PAPERS = {GENERATED: "cao", MAML: "maml"}
"""Kind → the paper's row that stands beside it: what a method gives a task before it sees a gradient of it."""


@dataclass(frozen=True)
class Measured:
    """The cosines of one kind of adapter.

    Attributes:
        tasks: T that have it.
        whole: (S, T, T) of all questions' gradients.
        shared: the same, of the modules that MAML-en-LLM trains.
        halved: (S, T, T) of halves of the questions; its diagonal is within tasks. None for a single batch.
        every: whether there are other modules than those.
        absent: task → why it has none.
    """

    tasks: tuple[str, ...]
    whole: Array
    shared: Array
    halved: Array | None
    every: bool
    absent: dict[str, str]


def measure(stock: Stock, options: TablesOptions, tasks: Sequence[str], progress: Progress) -> dict[str, Measured]:
    """Return the cosines at each kind of adapter; what is kept is not computed again.

    Args:
        stock: makes the adapters.
        options: batches and seeds.
        tasks: names.
        progress: called after each task.
    """
    return {kind: _kind(stock, options, kind, tasks, progress) for kind in KINDS}


def _kind(stock: Stock, options: TablesOptions, kind: str, tasks: Sequence[str], progress: Progress) -> Measured:
    absent = dict[str, str]()
    gradients: dict[str, list[list[dict[str, Tensor]]]] = {}
    for done, task in enumerate(tasks, 1):
        try:
            gradients[task] = [_of_task(stock, options.batches, kind, task, seed) for seed in options.seeds]
        except Exception as error:  # noqa: BLE001  (any defect is told, with the command that shows it)
            absent[task] = reason(error, f"{stock.command} --tasks {task}")
            gradients.pop(task, None)
        progress(f"gradients, {TITLES[kind]}", done, len(tasks))
    whole, shared, halved, every = list[Array](), list[Array](), list[Array](), False
    for place in range(len(options.seeds)):
        batches = [each[place] for each in gradients.values()]
        if not batches:
            continue
        means = [mean_gradient(each) for each in batches]
        whole.append(cosines(products(means)))
        shared.append(cosines(products(means, SHARED_MODULES)))
        every = every or any(_other(name) for name in means[0])
        if options.batches > 1:
            first = [mean_gradient(each[::2]) for each in batches]
            halved.append(halves(cosines(products([*first, *(mean_gradient(each[1::2]) for each in batches)]))))
    return Measured(
        tasks=tuple(gradients),
        whole=_stacked(whole),
        shared=_stacked(shared),
        halved=np.stack(halved) if halved else None,
        every=every,
        absent=absent,
    )


def _stacked(each: Sequence[Array]) -> Array:
    return np.stack(each) if each else np.zeros((0, 0, 0))


def _other(name: str) -> bool:
    return not any(f".{module}." in name for module in SHARED_MODULES)


def _of_task(stock: Stock, batches: int, kind: str, task: str, seed: int) -> list[dict[str, Tensor]]:
    """Return the gradients of a task's batches at the adapter of a kind."""
    weights = stock.make(kind, task, seed)
    return [
        _of_batch(stock, weights, f"{kind}-{task}-{seed}-{i}", task, some) for i, some in _dealt(task, seed, batches)
    ]


def _dealt(task: str, seed: int, batches: int) -> list[tuple[int, list[Example]]]:
    every = [example for example in part(get_task(task), PART) if example.choices]
    chosen = choose(every, batches * BATCH, f"{seed}:gradients")
    return [(i, chosen[i * BATCH : (i + 1) * BATCH]) for i in range(batches)]


def _of_batch(
    stock: Stock, weights: LoraWeights, name: str, task: str, examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Return the gradient of one batch, bfloat16 as it is kept."""
    depends_on = {"adapter": adapter_sha256(weights), "questions": about(examples), "tokens": ROW_TOKENS}

    def made() -> dict[str, Tensor]:
        rows = answer_rows(stock.lm, get_task(task), examples, ROW_TOKENS)
        found = gradient(stock.lm, weights, rows)
        return {name: value.to(torch.bfloat16) for name, value in found.items()}

    return stock.kept.tensors(f"gradient-{name}", depends_on, made)


def alike(values: Array) -> Alike | None:
    """Return the cosines between different tasks, None for less than two.

    Args:
        values: (S, T, T).
    """
    if not len(values) or values.shape[1] < 2:
        return None
    mean = values.mean(0)
    each = mean[np.triu_indices(len(mean), k=1)]
    return Alike(
        mean=round(float(each.mean()), 4),
        ci95=_rounded(interval(pair_means(mean, REPETITIONS))),
        deviation=round(float(each.std(ddof=1)) if len(each) > 1 else 0.0, 4),
        low=round(float(each.min()), 4),
        high=round(float(each.max()), 4),
        pairs=len(each),
    )


def row(stock: Stock, kind: str, found: Measured) -> GradientRow:
    """Return a row of the table."""
    between = alike(found.whole)
    mean = found.whole.mean(0) if len(found.whole) else found.whole.reshape(0, 0)
    halved = found.halved.mean(0) if found.halved is not None else None
    several = halved is not None and len(halved) > 1
    reads = stock.meta.spent(found.tasks) if kind in (MAML, MAML_ADAPTED) else ""
    return GradientRow(
        title=TITLES[kind],
        reads=reads,
        tasks=found.tasks,
        matrix=tuple(tuple(round(float(value), 4) for value in line) for line in mean),
        between=between,
        shared=alike(found.shared) if found.every else None,
        halves=round(float(halved[~np.eye(len(halved), dtype=bool)].mean()), 4)
        if several and halved is not None
        else None,
        within=round(float(np.diag(halved).mean()), 4) if halved is not None and len(halved) else None,
        absent=found.absent,
        paper=COSINES[PAPERS[kind]] if kind in PAPERS else None,
    )


def difference(first: Measured, second: Measured, what: str, *, shared: bool = False) -> Difference | None:
    """Return by how much one kind's gradients are more alike than another's, on the pairs that both have.

    Args:
        first: of which the second is taken off.
        second: the other.
        what: in words.
        shared: of the modules that MAML-en-LLM trains alone, which both have.
    """
    common = [task for task in first.tasks if task in second.tasks]
    if len(common) < 2:
        return None
    sides = []
    for found in (first, second):
        places = [found.tasks.index(task) for task in common]
        mean = (found.shared if shared else found.whole).mean(0)
        sides.append(mean[np.ix_(places, places)])
    gain = sides[0] - sides[1]
    each = gain[np.triu_indices(len(gain), k=1)]
    return Difference(
        what=what,
        value=round(float(each.mean()), 4),
        ci95=_rounded(interval(pair_means(gain, REPETITIONS))),
        n=len(each),
    )


def _rounded(ci95: tuple[float, float]) -> tuple[float, float]:
    return round(ci95[0], 4), round(ci95[1], 4)


def result(
    setting: Mapping[str, object], stock: Stock, options: TablesOptions, tasks: Sequence[str], progress: Progress
) -> Table3Result:
    """Measure the table.

    Args:
        setting: the fields of ``Setting``.
        stock: makes the adapters.
        options: batches and seeds.
        tasks: names.
        progress: called during long work.
    """
    found = measure(stock, options, tasks, progress)
    pairs = [
        difference(found[MAML], found[GENERATED], f"{TITLES[MAML]} minus {TITLES[GENERATED]}, q, v and o", shared=True),
        difference(found[START], found[GENERATED], f"{TITLES[START]} minus {TITLES[GENERATED]}"),
        difference(found[CENTRE], found[GENERATED], f"{TITLES[CENTRE]} minus {TITLES[GENERATED]}"),
        difference(found[ALIGNED], found[GENERATED], f"{TITLES[ALIGNED]} minus {TITLES[GENERATED]}"),
    ]
    rows, served = {kind: row(stock, kind, each) for kind, each in found.items()}, stock.served(tasks)
    return Table3Result.model_validate(
        {
            **setting,
            "batches": options.batches,
            "batch": BATCH,
            "row_tokens": ROW_TOKENS,
            "part": PART,
            "served": served,
            "rows": rows,
            "differences": tuple(each for each in pairs if each),
            "verdicts": (more_alike(pairs[0], rows[GENERATED], rows[MAML], served, str(setting["command"])),),
        }
    )

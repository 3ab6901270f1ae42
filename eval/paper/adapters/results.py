"""What the tables of adapters hold, from the measurement to the page; ``table3.json`` and its kin are this."""

from typing import Literal

from cao.types import Record
from eval.paper.adapters.published import PublishedCosine, PublishedSizes
from eval.paper.verdicts.verdict import Verdict

Interval = tuple[float, float]
Matrix = tuple[tuple[float, ...], ...]


class Setting(Record):
    """What every table of adapters states.

    Attributes:
        command: that made it.
        measured: day.
        fingerprint: of code, model, device and dtype, which all of its cells share.
        code: hash of the code; empty in older results, whose fingerprint has none.
        generators: variant → hash of the generator that was used.
        seeds: of support prompts and questions.
    """

    command: str
    measured: str
    model: str
    model_sha256: str
    device: str
    dtype: str
    fingerprint: str
    code: str = ""
    generators: dict[str, str]
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]


class Alike(Record):
    """Cosines between different tasks.

    Attributes:
        mean: over pairs of tasks, and seeds.
        ci95: bootstrap over tasks.
        deviation: standard deviation over pairs.
        low: lowest.
        high: highest.
        pairs: of tasks.
    """

    mean: float
    ci95: Interval
    deviation: float
    low: float
    high: float
    pairs: int


class GradientRow(Record):
    """The gradients at one kind of adapter.

    Attributes:
        title: what it is.
        reads: what made it had read.
        tasks: T that have it.
        matrix: (T, T) cosines of the gradients of all questions, mean over seeds.
        between: of all modules.
        shared: of the modules that MAML-en-LLM trains, None where that is all of them.
        halves: between tasks, a half of the questions against the other half of another task's.
        within: the same within a task: what two halves of one task reach.
        absent: task → why there is none.
        paper: its figure.
    """

    title: str
    reads: str
    tasks: tuple[str, ...]
    matrix: Matrix
    between: Alike | None
    shared: Alike | None
    halves: float | None
    within: float | None
    absent: dict[str, str]
    paper: PublishedCosine | None


class Difference(Record):
    """A difference on what both sides have.

    Attributes:
        what: in words.
        value: mean.
        ci95: bootstrap over tasks.
        n: pairs of tasks, or tasks.
    """

    what: str
    value: float
    ci95: Interval
    n: int


class Table3Result(Setting):
    """Gradients between tasks.

    Attributes:
        batches: K of each task and seed.
        batch: questions of each.
        row_tokens: of a question, at most.
        part: of a task that the questions are from.
        served: task → variant of the generators, and of MAML-en-LLM's trainings, that serves it.
        rows: kind → figures.
        differences: of kinds on the same pairs of tasks.
        verdicts: on the paper's claims.
    """

    table: Literal["3"] = "3"
    batches: int
    batch: int
    row_tokens: int
    part: str
    served: dict[str, str]
    rows: dict[str, GradientRow]
    differences: tuple[Difference, ...]
    verdicts: tuple[Verdict, ...]


class Stated(Record):
    """A mean over tasks and seeds with its bootstrap interval over tasks."""

    mean: float
    ci95: Interval


class SizeRow(Record):
    """How large and how sparse one kind of adapter is, ΔW of all modules together.

    Attributes:
        title: what it is.
        tasks: that have it.
        weights: entries of ΔW.
        sparsity: share of entries below each threshold, as the keys of ``Table4Result.thresholds`` name them.
        l1: sum of magnitudes.
        l2: square root of the sum of squares.
        largest: magnitude.
        spread: L1 / (L2·√n): 1 where all magnitudes are equal, .80 for normal weights, near 0 where few carry all.
        factors: share of entries of A and B below the absolute threshold.
        absent: task → why there is none.
        paper: its figure.
    """

    title: str
    tasks: tuple[str, ...]
    weights: int
    sparsity: dict[str, Stated]
    l1: Stated | None
    l2: Stated | None
    largest: Stated | None
    spread: Stated | None
    factors: Stated | None
    absent: dict[str, str]
    paper: PublishedSizes | None


class Table4Result(Setting):
    """Sizes and sparsity.

    Attributes:
        thresholds: name → what it says.
        rows: kind → figures.
        differences: of kinds on the same tasks.
        verdicts: on the paper's claims.
    """

    table: Literal["4"] = "4"
    thresholds: dict[str, str]
    rows: dict[str, SizeRow]
    differences: tuple[Difference, ...]
    verdicts: tuple[Verdict, ...]


class Similarity(Record):
    """Cosines between tasks of what one generator, or its aligner, makes of their prompts.

    Attributes:
        title: of what.
        tasks: T.
        whole: (T, T), mean over seeds.
        centred: the same, less the mean over tasks.
        length: mean length of what is compared.
    """

    title: str
    tasks: tuple[str, ...]
    whole: Matrix
    centred: Matrix
    length: float


class FiguresResult(Setting):
    """What Figures 3 to 5 are drawn from.

    Attributes:
        variant: one generator for all tasks, so that adapters differ by their prompts alone.
        seen: tasks that were among its sources.
        missing: tasks that have no adapter → why.
        layer: of ΔW, and of how many.
        module: of ΔW.
        block: rows and columns of ΔW that one entry of ``mean`` stands for.
        mean: ΔW's mean over tasks, pooled.
        departures: task → its ΔW less that mean, pooled.
        signature: module → Frobenius norm of ΔW layer by layer, mean over tasks and seeds.
        varying: the same, standard deviation over tasks as a share of the mean.
        similarities: what is compared → cosines.
        absent: what cannot be drawn → why.
        verdicts: on the paper's claims.
    """

    table: Literal["figures"] = "figures"
    variant: str
    seen: tuple[str, ...]
    missing: dict[str, str]
    layer: tuple[int, int]
    module: str
    block: tuple[int, int]
    mean: Matrix
    departures: dict[str, Matrix]
    signature: dict[str, tuple[float, ...]]
    varying: dict[str, tuple[float, ...]]
    similarities: dict[str, Similarity]
    absent: dict[str, str]
    verdicts: tuple[Verdict, ...]

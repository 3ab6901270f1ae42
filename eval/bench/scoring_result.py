"""What ranking answers costs on both sides, as ``scoring`` measured it."""

from cao.types import Record
from eval.bench.measure import BenchResult, Figure, Line


class Difference(Record):
    """A question that the two sides decide differently.

    Attributes:
        task: its task.
        id: of the question.
        ours: our choice.
        harness: the harness's.
        gap: how far the two answers lie apart, the smaller of both sides' (nats per character).
    """

    task: str
    id: str
    ours: int
    harness: int
    gap: float


class Medians(Record):
    """Seconds of each side."""

    ours: float
    harness: float


class ScoringResult(BenchResult):
    """What ranking answers costs on both sides.

    Attributes:
        harness: its version and batch.
        dtype: what the model computed in.
        questions: task → how many.
        ratios: task → the harness's time over ours, None where the machine was too noisy.
        noisy: what scatters too widely.
        spreads: of the ratios.
        geomean_ratio: over the tasks.
        seconds: task → medians.
        decisions: questions decided by both sides.
        decisions_equal: of them, alike.
        decisions_equal_in_default_precision: alike where the harness normalises in the model's dtype.
        decisions_equal_to_batches_of_one: alike where the harness takes one sequence at a time.
        harness_equal_to_its_batches_of_one: the harness with itself.
        differences: the others, one by one.
        machine_share: useful operations over the machine's rate of matrix products.
        machine_share_spread: of that share.
        matmul_flops_per_s: the rate.
        matmul_spread: of the rate.
        useful_flops: what scoring needs at least.
    """

    harness: str
    dtype: str
    questions: dict[str, int]
    ratios: dict[str, float | None]
    noisy: list[str]
    spreads: dict[str, float]
    geomean_ratio: float | None
    seconds: dict[str, Medians]
    decisions: int
    decisions_equal: int
    decisions_equal_in_default_precision: int
    decisions_equal_to_batches_of_one: int
    harness_equal_to_its_batches_of_one: int
    differences: list[Difference]
    machine_share: float | None
    machine_share_spread: float
    matmul_flops_per_s: float
    matmul_spread: float
    useful_flops: float

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        lines = [("computed in", self.dtype)]
        for name, value in self.ratios.items():
            spent, over = self.seconds[name], Figure(0.0 if value is None else value, self.spreads[name])
            beside = "" if over.noisy else f", {spent.harness:.2f} s against {spent.ours:.2f} s"
            lines.append((f"{name}, {self.questions[name]} questions", over.text() + beside))
        mean = self.geomean_ratio
        share = Figure(self.machine_share or 0.0, self.machine_share_spread)
        return [
            *lines,
            ("geometric mean", "none: a figure above is too noisy" if mean is None else f"{mean:.2f}"),
            (
                "equal decisions",
                f"{self.decisions_equal} of {self.decisions} ({self.decisions_equal_in_default_precision} where the "
                "harness normalises in the model's dtype, its default)",
            ),
            (
                "equal to the harness in batches of one",
                f"{self.decisions_equal_to_batches_of_one}; the harness in its own batches: "
                f"{self.harness_equal_to_its_batches_of_one} (rounding)",
            ),
            (
                "useful share of the matrix rate",
                f"{share.text()}; rate {self.matmul_flops_per_s / 1e9:.0f} GFLOP/s",
            ),
        ]

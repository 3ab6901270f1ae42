"""What the tables say of the paper's claims, on made figures."""

import pytest

from eval.bench.measure import exponent
from eval.paper.adapters.cost import ways_of
from eval.paper.adapters.cost_results import AxisCost
from eval.paper.adapters.results import Difference, GradientRow, Similarity, SizeRow
from eval.paper.adapters.verdicts import UNTRAINED, more_alike, near_zero, orders, sparser


def gradients(**absent: str) -> GradientRow:
    none = {"between": None, "shared": None, "halves": None, "within": None, "paper": None}
    return GradientRow(title="MAML", reads="10 steps", tasks=(), matrix=(), absent=absent, **none)


def lengths(**absent: str) -> SizeRow:
    none = {"l1": None, "l2": None, "largest": None, "spread": None, "factors": None, "paper": None}
    return SizeRow(title="MAML", tasks=(), weights=0, sparsity={}, absent=absent, **none)


def difference(value: float, low: float, high: float) -> Difference:
    return Difference(what="difference", value=value, ci95=(low, high), n=15)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (difference(0.1, 0.02, 0.2), "holds here"),
        (difference(0.1, -0.02, 0.2), "does not hold here"),
        (difference(-0.1, -0.2, -0.02), "does not hold here"),
        (None, "cannot be tested here"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_says_so(found: Difference | None, verdict: str) -> None:
    for said in (
        more_alike(found, gradients(), gradients(a="no folder", b="no folder"), {}, "the command"),
        sparser(found, found, lengths(a="no folder"), "the command"),
    ):
        assert (said.verdict, said.command) == (verdict, "the command")
        assert bool(said.figure) == (found is not None)
        assert found is not None or said.reason == "no folder"


def test_pairs_whose_weights_are_of_one_training_are_told_apart() -> None:
    """Tasks a and b are served by one training, c by another: one of three pairs counts."""
    generated, maml = (
        gradients().model_copy(
            update={"tasks": ("a", "b", "c"), "matrix": ((1.0, same, 0.9), (same, 1.0, 0.8), (0.9, 0.8, 1.0))}
        )
        for same in (0.3, 0.2)
    )
    served = {"a": "fold-1", "b": "fold-1", "c": "fold-2"}
    said = more_alike(difference(0.1, 0.02, 0.2), generated, maml, served, "c")
    told = "difference of the mean cosine on 15 pairs of tasks; on the 1 pairs that one training serves 0.200 against"
    assert said.reason == f"{told} 0.300; 10 steps"


def test_sparsity_tells_what_the_other_threshold_says_and_what_maml_read() -> None:
    unsure = Difference(what="sparsity (below 1e-06)", value=-0.002, ci95=(-0.003, 0.001), n=6)
    said = sparser(difference(0.1, 0.02, 0.2), unsure, lengths(), "c", "35 meta-steps")
    assert (said.verdict, said.reason) == (
        "holds here",
        "difference, 15 tasks; 35 meta-steps; -0.20 points (-0.30 to +0.10) in sparsity (below 1e-06)",
    )


def test_sparsity_that_turns_round_with_its_threshold_cannot_be_tested() -> None:
    more, less = difference(0.1, 0.02, 0.2), difference(-0.1, -0.2, -0.02)
    for pair in ((more, less), (less, more)):
        said = sparser(*pair, lengths(), "c")
        assert (said.verdict, said.reason.split(":")[0]) == (
            "cannot be tested here",
            "the paper states no threshold, and by another one the claim turns round",
        )


def test_a_baseline_that_can_be_trained_here_leaves_a_claim_unmeasured() -> None:
    untrained = f"{UNTRAINED} on the sources of `full`; run: …"
    maml = gradients(a=untrained)
    for said in (more_alike(None, gradients(), maml, {}, "c"), sparser(None, None, lengths(a=untrained), "c")):
        assert (said.verdict, said.reason) == ("not measured yet", untrained)


def alike(medicine: str, cosine: float) -> Similarity:
    whole = ((1.0, 0.5, cosine), (0.5, 1.0, cosine), (cosine, cosine, 1.0))
    return Similarity(title="aligned", tasks=("gsm8k", "math", medicine), whole=whole, centred=whole, length=1.0)


def test_jama_is_judged_and_its_stand_in_is_not() -> None:
    assert near_zero(alike("jama", 0.05), "", "c").verdict == "holds here"
    assert near_zero(alike("jama", 0.95), "", "c").verdict == "does not hold here"
    stand_in = near_zero(alike("medqa", 0.95), "", "c")
    assert stand_in.verdict == "cannot be tested here"
    assert "medqa to math 0.950" in stand_in.figure
    assert near_zero(None, "no aligner", "c").reason == "no aligner"
    assert near_zero(alike("piqa", 0.0), "", "c").figure == ""


def axis(power: float, *, noisy: bool = False) -> AxisCost:
    sizes = (10, 20, 40)
    operations = tuple(3.0 * size**power for size in sizes)
    fitted = exponent(sizes, operations)[0]
    return AxisCost(
        work="work",
        order="O(D)",
        sizes=sizes,
        seconds=(1.0, 2.0, 4.0),
        exponent=None if noisy else 1.0,
        spread=0.1,
        operations=operations,
        operations_exponent=fitted,
    )


def test_orders_are_read_off_the_fitted_growth() -> None:
    assert axis(1.0).operations_exponent == pytest.approx(1.0)
    assert axis(2.0).operations_exponent == pytest.approx(2.0)
    assert orders({"D": axis(1.0), "K": axis(1.05, noisy=True)}, "c").verdict == "holds here"
    assert "too noisy" in orders({"K": axis(1.0, noisy=True)}, "c").figure
    assert orders({"D": axis(1.0), "K": axis(2.0)}, "c").verdict == "does not hold here"


def test_few_steps_are_multiplied_out_to_the_recipes(made_bench: object) -> None:
    """24 questions took 12 s and 6 GFLOP: 4,000 take 2,000 s and 1,000 GFLOP, 250 take 125 s."""
    ways = ways_of(made_bench)  # type: ignore[arg-type]
    ours, trained, maml = ways.values()
    assert (ours.seconds, ours.operations, ours.gradients) == (2.0, 1e8, False)
    assert (trained.seconds, trained.operations) == (2000.0, pytest.approx(1e12))
    assert (maml.seconds, maml.operations, maml.gradients) == (125.0, pytest.approx(6.25e10), True)

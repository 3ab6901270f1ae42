"""Verdicts on the paper's claims about gradients, adapters and cost."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from eval.pages.markdown import with_interval
from eval.paper.adapters.cost_results import AxisCost
from eval.paper.adapters.results import Difference, GradientRow, Similarity, SizeRow
from eval.paper.verdicts.verdict import FAILS, HOLDS, UNMEASURED, UNTESTED, Verdict

MORE_ALIKE = "MAML-en-LLM's gradients are more alike between tasks than CAO-LLM's"
SPARSER = "CAO-LLM's adapters are sparser than MAML-en-LLM's"
NEAR_ZERO = "the aligned adapter for JAMA is near zero to those for mathematics"
ORDERS = "aligning costs O(D), training the aligner O(K·D), and neither an order more"

MATHEMATICS = ("gsm8k", "math")
UNTRAINED = "no MAML-en-LLM is trained"
"""Begins the reason why there is none that could be."""
JAMA, STANDS_IN = "jama", "medqa"
NEAR = 0.1
"""Largest cosine that is called near zero here; the paper gives no figure."""
TOLERANCE = 0.1
"""Of an exponent of counted operations."""


def _missing(absent: dict[str, str]) -> str:
    """Return the reasons, each once."""
    return "; ".join(dict.fromkeys(absent.values())) or "too few tasks have it"


def _without(claim: str, absent: dict[str, str], command: str) -> Verdict:
    """Return that a baseline is missing: one that can be trained here leaves the claim unmeasured."""
    trainable = any(reason.startswith(UNTRAINED) for reason in absent.values())
    verdict = UNMEASURED if trainable else UNTESTED
    return Verdict(claim=claim, verdict=verdict, figure="", command=command, reason=_missing(absent))


def _above_zero(claim: str, found: Difference, figure: str, command: str, reason: str) -> Verdict:
    """Judge a claim that a difference is positive, by its interval."""
    verdict = HOLDS if found.ci95[0] > 0 else FAILS
    return Verdict(claim=claim, verdict=verdict, figure=figure, command=command, reason=reason)


def one_training(tasks: Sequence[str], served: Mapping[str, str]) -> list[tuple[int, int]]:
    """Return the pairs of places whose two tasks one training serves.

    Args:
        tasks: names.
        served: task → variant, of those that one serves.
    """
    places = range(len(tasks))
    return [
        (i, j)
        for i in places
        for j in places
        if i < j and tasks[i] in served and served[tasks[i]] == served.get(tasks[j])
    ]


def within_one_training(row: GradientRow, served: Mapping[str, str]) -> list[float]:
    """Return a row's cosines between tasks that one training serves; others compare weights of two trainings."""
    return [row.matrix[i][j] for i, j in one_training(row.tasks, served)]


def more_alike(
    found: Difference | None, generated: GradientRow, maml: GradientRow, served: Mapping[str, str], command: str
) -> Verdict:
    """Judge Table 3's claim by the pairs of tasks that both methods have.

    Args:
        found: MAML-en-LLM's cosines minus those of generated adapters, None where there are none.
        generated: the row of generated adapters.
        maml: MAML-en-LLM's, for why there are none.
        served: task → the training that serves it.
        command: that measured it.
    """
    if found is None:
        return _without(MORE_ALIKE, maml.absent, command)
    figure = with_interval(found.value, found.ci95, "+.3f", scale=1)
    theirs, ours = (within_one_training(row, served) for row in (maml, generated))
    same = ""
    if theirs and ours:
        same = f"; on the {len(theirs)} pairs that one training serves {fmean(theirs):.3f} against {fmean(ours):.3f}"
    return _above_zero(
        MORE_ALIKE,
        found,
        figure,
        command,
        f"difference of the mean cosine on {found.n} pairs of tasks{same}; {maml.reads}",
    )


def sparser(
    relative: Difference | None, absolute: Difference | None, maml: SizeRow, command: str, reads: str = ""
) -> Verdict:
    """Judge Table 4's claim by the modules and the tasks that both methods have.

    The paper states no threshold. Where the claim is surely right by one and surely wrong by the other, it cannot be
    tested.

    Args:
        relative: sparsity of CAO-LLM's adapters minus MAML-en-LLM's at the threshold that does not depend on scale.
        absolute: the same at the one that does.
        maml: its row, for why there are none.
        command: that measured it.
        reads: what its meta-training read, in words.
    """
    if relative is None or absolute is None:
        return _without(SPARSER, maml.absent, command)
    first, second = (with_interval(one.value, one.ci95, "+.2f", unit=" points") for one in (relative, absolute))
    told = [f"{relative.what}, {relative.n} tasks", reads, f"{second} in {absolute.what}"]
    reason = "; ".join(filter(None, told))
    if relative.ci95[0] > 0 > absolute.ci95[1] or absolute.ci95[0] > 0 > relative.ci95[1]:
        reason = f"the paper states no threshold, and by another one the claim turns round: {reason}"
        return Verdict(claim=SPARSER, verdict=UNTESTED, figure=first, command=command, reason=reason)
    return _above_zero(SPARSER, relative, first, command, reason)


def near_zero(found: Similarity | None, why: str, command: str) -> Verdict:
    """Judge whether the aligned adapter for JAMA is near zero to those for mathematics.

    Args:
        found: cosines of aligned adapters, None where nothing is aligned.
        why: there are none.
        command: that measured it.
    """
    if found is None:
        return Verdict(claim=NEAR_ZERO, verdict=UNTESTED, figure="", command=command, reason=why)
    numbers = [task for task in MATHEMATICS if task in found.tasks]
    medicine = next((task for task in (JAMA, STANDS_IN) if task in found.tasks), None)
    if not numbers or medicine is None:
        reason = f"it takes {JAMA} and one of {', '.join(MATHEMATICS)} among --tasks"
        return Verdict(claim=NEAR_ZERO, verdict=UNTESTED, figure="", command=command, reason=reason)
    row = found.tasks.index(medicine)
    whole = {task: found.whole[row][found.tasks.index(task)] for task in numbers}
    less = {task: found.centred[row][found.tasks.index(task)] for task in numbers}
    figure = "; ".join(f"{medicine} to {task} {whole[task]:.3f}, less the mean {less[task]:+.3f}" for task in numbers)
    if medicine == JAMA:
        near = all(abs(value) < NEAR for value in whole.values())
        reason = f"cosines of aligned adapters; near zero is below {NEAR}"
        return Verdict(claim=NEAR_ZERO, verdict=HOLDS if near else FAILS, figure=figure, command=command, reason=reason)
    reason = (
        f"JAMA's questions may not be passed on: `python -m eval.score --task jama` says how to have them, and with "
        f"them --tasks {JAMA} measures this. The figure is of {medicine}, a stand-in"
    )
    return Verdict(claim=NEAR_ZERO, verdict=UNTESTED, figure=figure, command=command, reason=reason)


def orders(axes: Mapping[str, AxisCost], command: str) -> Verdict:
    """Judge Appendix C's orders by the growth of counted operations, which no other load changes.

    Args:
        axes: what grows → figures.
        command: that measured it.
    """
    off = [name for name, axis in axes.items() if abs(axis.operations_exponent - 1) > TOLERANCE]
    figure = "; ".join(
        f"{name}: operations {axis.operations_exponent:.2f}, time "
        + ("too noisy" if axis.exponent is None else f"{axis.exponent:.2f}")
        for name, axis in axes.items()
    )
    said = (
        f"exponents of the paper's aligner, which is not the one that ships; 1 expected, operations within {TOLERANCE} "
        "of it"
    )
    return Verdict(claim=ORDERS, verdict=FAILS if off else HOLDS, figure=figure, command=command, reason=said)

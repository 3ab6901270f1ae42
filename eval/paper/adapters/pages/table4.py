"""The page of Table 4."""

from eval.pages.markdown import table, with_interval
from eval.paper.adapters.pages.wording import absences, differences, header, verdict_table
from eval.paper.adapters.published import SIZE
from eval.paper.adapters.results import Difference, SizeRow, Stated, Table4Result


def table4_parts(result: Table4Result) -> list[str]:
    """Return the page's parts.

    Args:
        result: what was measured.
    """
    listed = "; ".join(f"“{name}”: {said}" for name, said in result.thresholds.items())
    told = f"""Figures are of ΔW = (α/r)·B·A, all modules together. The paper does not say so, nor where its threshold \
lies; but L1/L2 is at most √n, so that its first row takes n ≥ 19 million, which ΔW of q, v and o of its model has and \
A and B have not. An entry is sparse where its magnitude is small: {listed}. The second does not change with an \
adapter's scale, the first does; the verdict goes by the second, unless the first says the opposite, and by the \
modules that both methods train, q, v and o. Spread is L1/(L2·√n): .80 for normal entries, lower where few entries \
carry more. Models differ in n, so L1 and L2 here and there cannot be compared. Intervals are 95 %, \
a bootstrap over tasks and seeds.
"""
    heads = ["adapter", "tasks", "n, millions", *(f"sparse, {name} (95 %)" for name in result.thresholds)]
    heads += ["L1", "L2", "largest", "spread", "A and B, absolute", f"paper, {SIZE}: sparse, L1, L2, largest"]
    return [
        header("The paper's Table 4, measured here", result),
        told,
        verdict_table(result.verdicts),
        "## Sparsity and norms\n",
        table(heads, [_size(row, list(result.thresholds)) for row in result.rows.values()]),
        *differences(result.differences, _share_points),
        *absences({row.title: row.absent for row in result.rows.values()}),
    ]


def _size(row: SizeRow, thresholds: list[str]) -> list[str]:
    paper = ""
    if row.paper:
        paper = f"{row.paper.sparsity:.2f} %, {row.paper.l1:,.1f}, {row.paper.l2:.3f}, {row.paper.largest:.4f}"
    if not row.tasks:
        return [row.title, "0", "n/a", *[""] * (len(thresholds) + 5), paper]
    shares = [_share(row.sparsity[name]) for name in thresholds]
    norms = [_plain(each) for each in (row.l1, row.l2, row.largest, row.spread)]
    return [row.title, str(len(row.tasks)), f"{row.weights / 1e6:.1f}", *shares, *norms, _share(row.factors), paper]


def _share(found: Stated | None) -> str:
    if found is None:
        return ""
    return with_interval(found.mean, found.ci95, ".2f", unit=" %")


def _plain(found: Stated | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:,.0f}" if found.mean >= 1000 else f"{found.mean:.4g}"


def _share_points(found: Difference) -> str:
    return with_interval(found.value, found.ci95, "+.2f", unit=" points")

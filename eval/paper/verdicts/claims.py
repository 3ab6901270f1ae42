"""Verdicts: what the measured tables say of each claim of the paper. Pure functions of the tables' files.

A claim that one row is better than another holds where its interval excludes zero and its p-value, corrected for its
table, is below .05; that families differ holds by the interval alone. It does not hold where it was measured otherwise.
What cannot be had here cannot be tested, and a table without a file is not measured yet.
"""

import statistics
from collections.abc import Mapping

from agent.record.wording import count
from eval.baselines.base import Fixed
from eval.baselines.registry import BASELINES
from eval.baselines.seal.method import Seal
from eval.pages.markdown import with_interval
from eval.paper.page import not_chosen, parsable_of
from eval.paper.published import SIZES, average
from eval.paper.results import KINDS, TableResult, Versus
from eval.paper.rows import ALL, PAPERS_ALL, STAGE_1, STAGES_1_2, title
from eval.paper.tables import TABLES, table2
from eval.paper.verdicts.verdict import FAILS, HOLDS, UNMEASURED, UNTESTED, Verdict

MORE_ALIKE = "MAML-en-LLM's gradients are more alike between tasks than CAO-LLM's"
SPARSER = "CAO-LLM's adapters are sparser than MAML-en-LLM's"
ORDERS = "the cost grows as the paper says"
OTHERS = {MORE_ALIKE: "3", SPARSER: "4", ORDERS: "cost"}
"""Claims that other tables judge themselves → the table whose ``verdicts`` say so."""

FEW = 5
"""Optimiser's steps below which a baseline is next to nothing of itself."""

JAMA, MATHEMATICS = "jama", ("math", "gsm8k")


def verdicts(tables: Mapping[str, TableResult], model: str, others: Mapping[str, list[Verdict]]) -> list[Verdict]:
    """Return a verdict on each claim of the paper.

    Args:
        tables: number → what was measured, of those that are there; all of one model.
        model: how a command asks for it, behind ``--model``, for what is not measured yet.
        others: table → the verdicts that its own file has.
    """
    return [
        *_better_than_baselines(tables.get("2"), model),
        *_stage_1_alone_hurts(tables.get("6"), model),
        *_all_stages_needed(tables.get("6"), model),
        *_families_differ(tables.get("5"), model),
        *(_judged_elsewhere(claim, table, model, others) for claim, table in OTHERS.items()),
        *_near_zero(others, model),
    ]


def again(table: str, model: str) -> str:
    """Return the command that measures a table."""
    return f"python -m eval.tables --table {table} --model {model}" + (" --preset quick" if table in TABLES else "")


def _compared(claim: str, table: TableResult | None, pair: tuple[str, str, str], number: str, model: str) -> Verdict:
    """Return whether one row is better than another on the tasks of a kind."""
    row, other, kind = pair
    if table is None or not {row, other} <= set(table.rows):
        return Verdict(claim=claim, verdict=UNMEASURED, command=again(number, model))
    found = table.pair(*pair)
    if found is None:
        return Verdict(claim=claim, verdict=UNTESTED, command=table.command, reason=_why(table, row, other, kind))
    return Verdict(
        claim=claim,
        verdict=HOLDS if found.surely_better else FAILS,
        figure=f"{with_interval(found.accuracy, found.ci95)} points, p {found.holm:.3f}",
        command=table.command,
        reason=f"{len(found.tasks)} tasks{_plain(table, found)}{_named(table, found)}{_budget(table, other)}",
    )


def _plain(table: TableResult, pair: Versus) -> str:
    """Return the difference by the plain rule; empty where answers are written."""
    if table.protocol != "likelihood":
        return ""
    if pair.plain is not None and pair.plain_ci95 is not None:
        return f"; by the plain rule {with_interval(pair.plain, pair.plain_ci95)}"
    one, other = ([table.rows[row].cells[task].default for task in pair.tasks] for row in (pair.row, pair.other))
    return f"; by the plain rule {100 * (statistics.fmean(one) - statistics.fmean(other)):+.1f}"


def _named(table: TableResult, pair: Versus) -> str:
    """Return which share of the two rows' written answers is parsable; empty where answers are ranked."""
    one, other = (parsable_of(table.rows[row], pair.tasks) for row in (pair.row, pair.other))
    if one is None or other is None:
        return ""
    return f"; {one:.0%} of its answers are parsable, {other:.0%} of the other's"


def _budget(table: TableResult, other: str) -> str:
    """Return what the reader has to know of a baseline that was given less than the method."""
    bounded = table.rules == "equal" and other in BASELINES and not issubclass(BASELINES[other], Fixed)
    spent = table.rows[other].spent if bounded else None
    if spent is None:
        return ""
    searched = "; its learning rate was not searched for" if other != Seal.name and len(table.rates) == 1 else ""
    taken = spent[0].steps + spent[1].steps
    if taken < FEW:
        searched = f"; it took {count(taken, 'step')} on average, which tests next to nothing of it{searched}"
    if spent[0].tokens:
        own = table.rows[ALL].spent if ALL in table.rows else None
        whole = own[0].tokens if own else None
        read = f"; it read {spent[0].tokens / whole:.1%} of the tokens that generator and aligner read" if whole else ""
        return f"{read}{searched}"
    least = f", but {kind} at least" if (kind := BASELINES[other].least) else ""
    of_all = f"its share of {table.share:.0%} of the generator's and the aligner's tokens"
    return f"; the baseline read {of_all}, at most{least}{searched}"


def _why(table: TableResult, row: str, other: str, kind: str) -> str:
    """Return why two rows have no task in common: what is said of the first such task."""
    if kind not in table.kinds.values():
        return f"no task {kind} was measured"
    for name in (row, other):
        reasons = [why for task, why in table.rows[name].absent.items() if table.kinds.get(task) == kind]
        if reasons:
            return f"{title(name)}: {reasons[0]}"
    return "no task has both"


def _better_than_baselines(table: TableResult | None, model: str) -> list[Verdict]:
    found = [
        _compared(f"CAO-LLM is better than {title(name)}, {kind}", table, (ALL, name, kind), "2", model).model_copy(
            update={"beyond": not _published(name, kind)}
        )
        for kind in KINDS
        for name in BASELINES
    ]
    if table is None or PAPERS_ALL not in table.rows:
        return found
    papers = [(name, kind) for kind in KINDS for name in table2.PAPERS]
    return found + [
        _compared(
            f"{title(PAPERS_ALL)}, is better than {title(name)}, {kind}", table, (PAPERS_ALL, name, kind), "2", model
        ).model_copy(update={"beyond": not _published(name, kind)})
        for name, kind in papers
    ]


def _published(row: str, kind: str) -> bool:
    """Return whether the paper has a mean of a row."""
    return any(average(size, row, in_domain=kind == KINDS[0]) is not None for size in SIZES)


def _stage_1_alone_hurts(table: TableResult | None, model: str) -> list[Verdict]:
    """Return whether stage 1 alone is worse than the base model out of domain, as in part of the paper's Table 2."""
    claim = "stage 1 alone hurts out of domain"
    found = _compared(claim, table, (STAGE_1, "base", KINDS[1]), "6", model)
    pair = table.pair(STAGE_1, "base", KINDS[1]) if table else None
    if pair is None:
        return [found]
    return [found.model_copy(update={"verdict": HOLDS if pair.surely_worse else FAILS})]


def _all_stages_needed(table: TableResult | None, model: str) -> list[Verdict]:
    steps = [
        ("stage 1 gains over the base model", STAGE_1, "base"),
        ("stage 2 gains over stage 1", STAGES_1_2, STAGE_1),
        ("stage 3 gains over stages 1 and 2", ALL, STAGES_1_2),
        ("all stages together gain over the base model", ALL, "base"),
    ]
    if table and PAPERS_ALL in table.rows:
        steps += [
            ("stage 3, accepting as the paper does, gains over stages 1 and 2", PAPERS_ALL, STAGES_1_2),
            ("all stages together, accepting as the paper does, gain over the base model", PAPERS_ALL, "base"),
        ]
    parts, found = list[Verdict](), list[Verdict]()
    for kind in KINDS:
        each = [_compared(f"{claim}, {kind}", table, (row, other, kind), "6", model) for claim, row, other in steps]
        said = [one.verdict for one in each[:3]]
        worst = next(verdict for verdict in (UNMEASURED, FAILS, UNTESTED, HOLDS) if verdict in said)
        gains = [f"{one.claim.split(' gains')[0]} {one.figure or one.verdict}" for one in each[:3]]
        found.append(
            Verdict(
                claim=f"all three stages are needed, {kind}",
                verdict=worst,
                figure="; ".join(gains) if table else "",
                command=each[0].command,
                reason="each stage must gain over the one before" if table else "",
            )
        )
        parts += each
    return [*found, *parts]


def _families_differ(table: TableResult | None, model: str) -> list[Verdict]:
    """Return whether other families are best on other tasks: choosing for each must gain on questions not chosen on."""
    claim = "families of strategies differ by task"
    if table is None:
        return [Verdict(claim=claim, verdict=UNMEASURED, command=again("5", model))]
    if table.choice is None:
        reason = "fewer than two families can be compared on every task"
        return [Verdict(claim=claim, verdict=UNTESTED, command=table.command, reason=reason)]
    best = table.choice.best
    several = len(set(best.values()))
    left_out = [f"without {title(row)}, which has no figure on {n}" for row, n in not_chosen(table).items()]
    return [
        Verdict(
            claim=claim,
            verdict=HOLDS if several > 1 and table.choice.ci95[0] > 0 else FAILS,
            figure=f"{with_interval(table.choice.gain, table.choice.ci95)} points for choosing by task",
            command=table.command,
            reason="; ".join([f"{several} families are best somewhere on {len(best)} tasks", *left_out]),
        )
    ]


def _judged_elsewhere(claim: str, table: str, model: str, others: Mapping[str, list[Verdict]]) -> Verdict:
    listed = others.get(table)
    if listed is None:
        return Verdict(claim=claim, verdict=UNMEASURED, command=again(table, model))
    named = next((one for one in listed if one.claim == claim), listed[0] if len(listed) == 1 else None)
    reason = f"table {table} says nothing of it"
    return named or Verdict(claim=claim, verdict=UNTESTED, command=again(table, model), reason=reason)


def _near_zero(others: Mapping[str, list[Verdict]], model: str) -> list[Verdict]:
    """Return what the figures say of JAMA's adapters beside those of mathematics."""
    known = [one for listed in others.values() for one in listed if "JAMA" in one.claim or "jama" in one.claim]
    claim = f"adapters of {JAMA} are near zero in cosine to those of mathematics ({', '.join(MATHEMATICS)})"
    return known or [Verdict(claim=claim, verdict=UNMEASURED, command=again("figures", model))]

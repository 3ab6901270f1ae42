"""How a table was measured, as a list on its page: the model, the questions, the rules, what a row may spend."""

from eval.baselines.registry import BASELINES
from eval.paper.published import STAND_INS
from eval.paper.results import TableResult
from eval.paper.rows import ALL, CHECKPOINTED, PAPERS_ALL, WHOLE, title
from eval.paper.tables import TABLES

PAPERS_RULES = "Baselines have their papers' own settings (Appendix H)."

STATISTICS = (
    "Intervals are 95 %: a paired bootstrap over questions and seeds; p-values are two-sided, corrected by Holm for "
    "all comparisons of this table. Where every draw agrees, as with none right of 60, a task's interval is "
    "Wilson's; +0.0 (+0.0 to +0.0) are two rows that answer every question alike."
)

PAPERS_FIGURES = (
    "Those of Qwen2.5-Instruct, parsed from free text; its means are over its own six tasks, as it states them. Out of "
    "domain three of them are not the means of its own figures: Union-Train 29.9 (23.7 by its tasks) and stage 1 25.7 "
    "(23.4) at 0.5B, Union-Train 36.1 (35.2) at 1.5B."
)


def heading(result: TableResult) -> str:
    """Return the top of the page: the table's name, its command, and what is measured, in a sentence."""
    asked = "ranked by likelihood" if result.protocol == "likelihood" else "written, and parsed"
    seeds = f"seed{'s' if len(result.seeds) > 1 else ''} {', '.join(map(str, result.seeds))}"
    how = (
        ", answers written" * (result.protocol == "generate"),
        ", by the papers' own settings" * (result.rules == "paper"),
    )
    return f"""# Table {result.table} of the paper, measured here: {TABLES[result.table].title.lower()}{"".join(how)}

Made on {result.measured} by

    {result.command}

{result.model} in {result.dtype}, preset `{result.preset}`, {seeds}; at most {result.limit} test questions a task, \
answers {asked}. [How it was measured](#how-it-was-measured) stands below the figures.
"""


def how_measured(result: TableResult) -> str:
    """Return the list, under its heading."""
    equal = equal_rules(result) if result.rules == "equal" else PAPERS_RULES
    told = {
        "Model": f"{result.model} (sha256 {result.model_sha256[:12]}…), {result.dtype}, device {result.device} "
        f"({result.machine}).",
        "Rows": _rows(result),
        "Answers": _answers(result),
        "What baselines may read": _joined(equal, _unbounded(result)) if result.table == "2" else "",
        "Runs": _joined(accepted(result), calibrated(result), transductive(result)),
        "What is not new to a row": _joined(reworded(result), practised(result)),
        "Statistics": STATISTICS,
        "The paper's figures": _joined(PAPERS_FIGURES, stand_ins(result)),
    }
    listed = [f"- **{name}**: {text}" for name, text in told.items() if text]
    return "\n".join(["## How it was measured\n", *listed, ""])


def _rows(result: TableResult) -> str:
    table = TABLES[result.table]
    return _joined(table.about, *(said for row, said in table.of_rows.items() if row in result.rows))


def _unbounded(result: TableResult) -> str:
    """Return what a whole run read on the target, which nothing but its attempts bounds."""
    spent = result.rows[ALL].spent if ALL in result.rows else None
    if spent is None or spent[1].tokens is None:
        return ""
    return (
        f"What a whole run reads on the target, to answer reward questions and to train, is bounded by its attempts "
        f"alone: {spent[1].tokens:,} tokens on average, without what `inputs=test` trains at the end."
    )


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _answers(result: TableResult) -> str:
    if result.protocol != "likelihood":
        return "“parsable” is the share of answers that name a shown choice, or state a value where none are shown."
    return (
        f"Every model answers by its own best rule, chosen on {result.reward} reward questions from the same rules for "
        f"all: {result.rule_choice}. “Plain rule” is log p per character, the default."
    )


def reworded(result: TableResult) -> str:
    """Return which tasks' problems were learnt from in other words, in a sentence; empty for none."""
    if not result.reworded:
        return ""
    return (
        f"The generator of {', '.join(result.reworded)}, and what baselines learnt from, had the same problems with "
        "other names and numbers in one source."
    )


def accepted(result: TableResult) -> str:
    """Return by which rule runs accept; empty where no row is of a run."""
    usual = f"A run accepts what is better by the rule `{result.accept}`." if ALL in result.rows else ""
    papers = (
        "accepts whatever has a higher accuracy on the reward part: where nothing is better, most runs take something"
    )
    return f"{usual} “{title(PAPERS_ALL)}” {papers} (`--accept any`)." if PAPERS_ALL in result.rows else usual


def calibrated(result: TableResult) -> str:
    """Return how many whole runs took answer rules that the other rows may not choose; empty without such runs."""
    if result.protocol != "likelihood":
        return ""
    notes = _notes(result)
    took = sum("Calibrate(" in note for *_, note in notes)
    said = f"Calibrate, whose answer rules no other row may choose, was accepted in {took} of {len(notes)} whole runs."
    return said if notes else ""


def transductive(result: TableResult) -> str:
    """Return on which tasks whole runs learnt from the test questions, without their answers, as no other row may."""
    tasks = dict[str, list[str]]()
    for row, task, note in _notes(result):
        if "inputs=test" in note:
            tasks.setdefault(row, []).append(task)
    if not tasks:
        return ""
    where = "; ".join(f"in “{title(row)}” on {', '.join(dict.fromkeys(found))}" for row, found in tasks.items())
    return (
        "What a run accepts may be TTL with `inputs=test`, the paper's Algorithm 2: it trains on the texts of the "
        f"questions that it then answers, not on their answers. It was {where}. No baseline reads them."
    )


def _notes(result: TableResult) -> list[tuple[str, str, str]]:
    """Return row, task and what was made by each whole run."""
    rows = [row for row in WHOLE if row in result.rows]
    return [(row, task, note) for row in rows for task, cell in result.rows[row].cells.items() for note in cell.notes]


def stand_ins(result: TableResult) -> str:
    """Return which of the tasks stand in for the paper's, in a sentence; empty for none."""
    named = ", ".join(f"{task} for {STAND_INS[task]}" for task in result.tasks if task in STAND_INS)
    return (
        f"Other tasks stand in for those that are not at hand, without a figure of the paper: {named}." if named else ""
    )


def practised(result: TableResult) -> str:
    """Return which tasks the policy knows, in a sentence; empty for none."""
    if not result.practised:
        return ""
    runs = " and ".join(f"“{title(row)}”" for row in WHOLE if row in result.rows)
    return (
        f"The policy that proposes strategies in {runs} practised choosing them on other questions of "
        f"{', '.join(result.practised)}: its stage 3 is not new to these."
    )


def equal_rules(result: TableResult) -> str:
    """Return what a baseline may spend, in a sentence."""
    tokens = "as many tokens as" if result.share == 1 else f"{result.share:.0%} of the tokens that"
    steps = f"{10 * result.adapting:g}"
    single = f"where it does not choose its own rate, that is {result.rates[0]:g}"
    rate = single if len(result.rates) == 1 else "its rate is chosen on train questions"
    least = "".join(
        f" {title(row)} reads {kind.least} at least."
        for row, kind in BASELINES.items()
        if row in result.rows and kind.least
    )
    fixed = [title(row) for row in CHECKPOINTED if row in result.rows]
    before = f" This bounds no checkpoints that generators are trained on: {' and '.join(fixed)}." if fixed else ""
    return (
        f"Each baseline may read {tokens} the generator that serves the task, and the aligner behind it, read in "
        f"training, and take {steps} steps on 25 labelled questions at test time; {rate}. One that prepares nothing "
        f"reads its share of those tokens on the task instead: what all tasks of one generator read is what a "
        f"preparation would.{least}{before}"
    )

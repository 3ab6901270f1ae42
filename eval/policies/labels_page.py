"""``labels.md`` and its figures: what half of the labelled reward questions buys, for people."""

from collections import Counter
from pathlib import Path

from eval.pages.markdown import table, with_interval
from eval.pages.writing import write_result
from eval.policies.labels_results import (
    BASE,
    ROWS,
    START,
    TESTED,
    VARIANTS,
    Change,
    LabelsPage,
    LabelsResult,
    RowVerdict,
    page_of,
)
from eval.policies.results import Mean
from eval.policies.verdicts import LEVEL


def write_page(result: LabelsResult, folder: Path) -> Path:
    """Write ``labels.md`` and ``labels.json`` and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    whole = page_of(result)
    parts = [
        _head(whole),
        _in_short(whole),
        f"## The half to judge\n\n{_rows(whole.judged)}",
        f"## The test part\n\n{_rows(whole.test)}",
        _tasks(whole),
        _trainings(whole),
    ]
    return write_result(whole, "\n".join(parts), folder, "labels")


def _head(page: LabelsPage) -> str:
    rows = "".join(f"- **{name}**: {what}.\n" for name, what in ROWS.items())
    recipe = page.recipe
    return f"""# What labels buy: LoRA and Calibrate fitted on the reward questions

Made on {page.measured} by

    {page.command}

{page.model} (sha256 {page.model_sha256[:12]}…) in {page.dtype} on {page.device}. A situation is a task and a seed at \
the point where a run's loop begins: {page.support} support prompts, {page.reward} reward questions, at most \
{page.limit} test questions, seeds {", ".join(map(str, page.seeds))}. Half of the reward questions are there to fit, \
half to judge. What is fitted reads the labels of the first half only; of the others each row's answer rule is chosen \
by the half to judge, so that its figures are a little too good there, for all rows without Calibrate alike. LoRA is \
trained by AdamW on gold answers, {recipe.batch} questions a step, at rates of \
{", ".join(f"{rate:g}" for rate in recipe.rates)} for at most {recipe.epochs} epochs; a third of the half to fit is \
held back and stops it. Losses are choice log-losses at each model's own temperature, nats. Intervals are 95 %: a \
bootstrap over tasks, and over seeds within tasks. They are too short where tasks are few; p is two-sided, by flipping \
the signs of the tasks' mean differences, and of five tasks no difference can be sure. What “wins” has its whole \
interval on its side and p ≤ {LEVEL:g}.

{rows}"""


def _in_short(page: LabelsPage) -> str:
    judged, test = page.judged[page.control], page.test[page.control]
    verdict = "wins over" if page.wins else "does not win over"
    return (
        f"## In short\n\nThe half to judge chose **{page.control}** of {len(VARIANTS)} variants, "
        f"{_change(judged.against_start)} against the start there. On the test part it {verdict} the start, which no "
        f"label made: {_change(test.against_start)}; against the base model {_change(test.against_base)}.\n"
    )


def _change(change: Change | None) -> str:
    if change is None:
        return "–"
    points = f"{_points(change.accuracy)} points (p = {change.accuracy_p:.3g})"
    return f"{points}, log-loss {_loss(change.loss)} (p = {change.loss_p:.3g})"


def _points(mean: Mean) -> str:
    return with_interval(mean.mean, mean.ci95)


def _loss(mean: Mean) -> str:
    return with_interval(mean.mean, mean.ci95, "+.4f", scale=1)


def _rows(verdicts: dict[str, RowVerdict]) -> str:
    heads = ["", "right", "log-loss"]
    heads += [f"{what} against {other}" for other in (BASE, START) for what in ("points", "log-loss")]
    rows = []
    for name, verdict in verdicts.items():
        changes = [
            text
            for change in (verdict.against_base, verdict.against_start)
            for text in ((_points(change.accuracy), _loss(change.loss)) if change else ("", ""))
        ]
        rows.append([name, f"{100 * verdict.accuracy.mean:.1f} %", f"{verdict.loss.mean:.4f}", *changes])
    return table(heads, rows)


def _tasks(page: LabelsPage) -> str:
    """Return the share of right test answers by task, mean over seeds."""
    shown = [row for row in page.cells if row in (*TESTED, page.control)]
    rows = []
    for task in page.tasks:
        names = [f"{task}-{seed}" for seed in page.seeds]
        cells = []
        for row in shown:
            found = [cell.test.accuracy for name in names if (cell := page.cells[row][name]).test]
            cells.append(f"{100 * sum(found) / len(found):.1f}")
        rows.append([task, ", ".join(page.situations[name].start for name in names), *cells])
    return f"## Right test answers by task, %\n\n{table(['', 'starts', *shown], rows)}"


def _trainings(page: LabelsPage) -> str:
    heads, rows = ["LoRA from", "epochs taken", "rates taken", "log-loss held back", "seconds"], []
    for side in (BASE, START):
        fitted = [known.trainings[side] for known in page.situations.values()]
        before = sum(next(iter(one.losses.values()))[0] for one in fitted) / len(fitted)
        after = sum(one.losses[f"{one.rate:g}"][one.epochs] for one in fitted) / len(fitted)
        epochs = Counter(str(one.epochs) for one in fitted)
        rates = Counter(f"{one.rate:g}" for one in fitted if one.epochs)
        seconds = sum(one.seconds for one in fitted) / len(fitted)
        rows.append([side, _counted(epochs), _counted(rates), f"{before:.4f} → {after:.4f}", f"{seconds:.0f}"])
    other = sum(known.start != known.run_start for known in page.situations.values())
    note = (
        f"In {len(page.situations)} situations. Zero epochs keep what the training would have begun from. A run, which "
        f"chooses its start by all labels of the reward part, starts from something else in {other} of them."
    )
    return f"## The trainings\n\n{note}\n\n{table(heads, rows)}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{what} ({count} times)" for what, count in sorted(counts.items())) or "–"

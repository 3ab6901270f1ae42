"""The drift table as a page: what was aimed at, what was reached, and a picture of the power."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.drift.results import (
    TESTS,
    DriftResult,
    FalseAlarms,
    Kinds,
    Nearest,
    Power,
    Share,
    Signals,
    Speed,
    Stream,
)
from eval.pages.style import STYLE
from eval.pages.writing import write_result, writing


def write_page(result: DriftResult, folder: Path) -> Path:
    """Write ``drift.md``, ``drift.json`` and ``drift.svg`` and return the page's path.

    Args:
        result: what was measured.
        folder: where they go.

    Raises:
        InputError: it cannot be written.
    """
    with writing(folder):
        _picture(result, folder / "drift.svg")
    return write_result(result, "\n".join(_page(result)) + "\n", folder, "drift")


def _page(result: DriftResult) -> Iterable[str]:
    yield "# What the drift sense reaches\n"
    yield f"Made by `{result.command}`; the same numbers are in [drift.json](drift.json).\n"
    yield (
        "Known tasks are the six shipped references, from `train` parts. Windows are drawn from the other parts, at"
        " most 1,000 prompts of a task, so windows of one cell overlap and the Wilson intervals (95 %) are a little too"
        " narrow. The detector was built on `train` alone; nothing was tuned on what is shown here. 499 permutations.\n"
    )
    yield "![Share of windows rejected by their size](drift.svg)\n"
    yield from _aims(result)
    yield from _levels("False alarms with the shipped references", result.false_alarms, "tasks")
    yield from _levels("False alarms with redrawn references", result.redrawn, "references")
    yield from _power(result.power)
    yield from _kinds(result.kinds)
    yield from _nearest(result.nearest)
    yield from _signals(result.signals)
    yield from _stream(result.stream)
    yield from _speed(result.speed)


def aims(result: DriftResult) -> list[tuple[str, str, bool]]:
    """Return what was aimed at, what was measured, and whether it was reached."""
    level = [row for row in result.false_alarms + result.redrawn if row.test == "together"]
    at05 = [row.rate for row in level if row.level == 0.05]
    at01 = [row.rate for row in level if row.level == 0.01]
    full, quarter, tenth = (
        {row.n: row.rate for row in result.power if (row.share, row.level, row.test) == (share, 0.05, "together")}
        for share in (1.0, 0.25, 0.1)
    )
    arc = {row.n: row.rate for row in result.signals if row.test == "together" and row.origin == "arc_challenge"}
    near = {row.n: row.rate for row in result.nearest if row.tasks == 5}
    bound = min(row.lower95 for row in result.stream.run_length.values())
    slowest = max(row.ratio for row in result.speed)
    reached = [
        (
            "false alarms at .05 within [.04, .06]",
            f"{min(at05):.3f} to {max(at05):.3f}",
            min(at05) >= 0.04 and max(at05) <= 0.06,
        ),
        ("false alarms at .01 at most .015", f"{max(at01):.3f} at most", max(at01) <= 0.015),
        ("a full switch at 8 prompts at least .99", f"{full[8]:.3f}", full[8] >= 0.99),
        ("25 % from a known task at 16 prompts at least .80", f"{quarter[16]:.3f}", quarter[16] >= 0.80),
        ("25 % from a known task at 32 prompts at least .95", f"{quarter[32]:.3f}", quarter[32] >= 0.95),
        ("10 % from a known task at 64 prompts at least .40", f"{tenth[64]:.3f}", tenth[64] >= 0.40),
        ("ARC-Easy → ARC-Challenge at 64 with signals at least .60", f"{arc[64]:.3f}", arc[64] >= 0.60),
        ("nearest of five from one prompt at least .95", f"{near[1]:.3f}", near[1] >= 0.95),
        ("nearest of five from four prompts at least .99", f"{near[4]:.3f}", near[4] >= 0.99),
        ("run length without drift above 1,000 (lower 95 % bound)", f"{bound:,.0f}", bound > 1000),
        ("a report on 32 prompts at most 1.2 times encoding them", f"{slowest:.2f} at most", slowest <= 1.2),
    ]
    for share, most in (("1.0", 5), ("0.5", 10), ("0.25", 20)):
        delay = result.stream.delay[share]
        soon = delay.median <= most and delay.p90 <= 3 * most
        measured = f"median {delay.median:.0f}, p90 {delay.p90:.0f}"
        reached.append((f"delay after a {float(share):.0%} change at most {most}, p90 {3 * most}", measured, soon))
    return reached


def _aims(result: DriftResult) -> Iterable[str]:
    yield "| aimed at | measured | |\n|---|---|---|"
    for aim, measured, reached in aims(result):
        yield f"| {aim} | {measured} | {'reached' if reached else '**missed**'} |"
    yield ""


def _interval(row: Share) -> str:
    low, high = row.ci95
    return f"{row.rate:.3f} ({low:.3f}–{high:.3f})"


def _levels(title: str, rows: Sequence[FalseAlarms], over: str) -> Iterable[str]:
    yield f"## {title}\n"
    yield f"Share of undrifted windows rejected; in brackets the interval, then the range over single {over}.\n"
    yield f"| prompts | level | {' | '.join(TESTS)} | range of together | windows |\n|{'---|' * 8}"
    for n, level in dict.fromkeys((row.n, row.level) for row in rows):
        each = {row.test: row for row in rows if (row.n, row.level) == (n, level)}
        low, high = each["together"].range
        cells = " | ".join(_interval(each[test]) for test in TESTS)
        yield f"| {n} | {level} | {cells} | {low:.3f}–{high:.3f} | {each['together'].windows} |"
    yield ""


def _power(rows: Sequence[Power]) -> Iterable[str]:
    yield "## Power at level .05\n"
    yield "Mean over the ordered pairs of tasks but ARC-Easy → ARC-Challenge, the worst of them, and that pair alone.\n"
    yield f"| from elsewhere | prompts | {' | '.join(TESTS)} | worst pair | ARC-Easy → ARC-Challenge |"
    yield f"|{'---|' * 8}"
    for share, n in dict.fromkeys((row.share, row.n) for row in rows):
        each = {row.test: row for row in rows if (row.share, row.n, row.level) == (share, n, 0.05)}
        worst = each["together"].worst
        cells = " | ".join(_interval(each[test]) for test in TESTS)
        last = f"{worst.rate:.2f} ({' → '.join(worst.pair)}) | {each['together'].arc.rate:.2f}"
        yield f"| {share:.0%} | {n} | {cells} | {last} |"
    (full,) = (row for row in rows if (row.share, row.n, row.level, row.test) == (1.0, 8, 0.05, "together"))
    low = ", ".join(f"{task} → {source} {rate:.2f}" for task, source, rate in full.below)
    yield f"\nOf {full.pairs} full switches, those found in less than .95 of windows of 8: {low or 'none'}.\n"


def _kinds(kinds: Kinds) -> Iterable[str]:
    names = sorted({kind for row in kinds.values() for kind in row})
    yield "## Kinds, windows of 32\n"
    yield f"| origin | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    for origin, row in kinds.items():
        yield f"| {origin} | {' | '.join(f'{row.get(name, 0.0):.2f}' for name in names)} |"
    yield ""


def _nearest(rows: Sequence[Nearest]) -> Iterable[str]:
    yield "## Nearest known task\n"
    yield "| known tasks | prompts | right |\n|---|---|---|"
    for row in rows:
        yield f"| {row.tasks} | {row.n} | {_interval(row)} |"
    yield "\nAll six are five and ARC-Challenge, which prompts alone hardly tell from ARC-Easy.\n"


def _signals(rows: Sequence[Signals]) -> Iterable[str]:
    yield "## The model's option signals\n"
    yield "ARC-Easy is expected. A model call for each prompt makes this a second, later look.\n"
    yield "| windows from | prompts | prompts alone | signals alone | together |\n|---|---|---|---|---|"
    for origin, n in dict.fromkeys((row.origin, row.n) for row in rows):
        each = {row.test: row for row in rows if (row.origin, row.n) == (origin, n)}
        cells = " | ".join(_interval(each[test]) for test in ("prompts alone", "signals alone", "together"))
        yield f"| {origin} | {n} | {cells} |"
    yield ""


def _stream(stream: Stream) -> Iterable[str]:
    yield "## Streams\n"
    yield "At most one false alarm in 1,000 prompts is promised; streams are cut off at 10,000.\n"
    yield "| bag | mean run length | lower 95 % bound | runs | cut off |\n|---|---|---|---|---|"
    for name, row in stream.run_length.items():
        yield f"| {name} | {row.mean:,.0f} | {row.lower95:,.0f} | {row.runs} | {row.cut_off} |"
    yield "\nA fresh bag comes from the stream's own prompts; the shipped one is the reference's held half; in the last"
    yield "row all six tasks are expected and a stream holds one of them.\n"
    yield "| change | median delay | p90 | median for ARC-Easy → ARC-Challenge | runs |\n|---|---|---|---|---|"
    for share, delay in stream.delay.items():
        cells = f"{delay.median:.0f} | {delay.p90:.0f} | {delay.arc_median:.0f} | {delay.n}"
        yield f"| {float(share):.0%} | {cells} |"
    yield ""


def _speed(rows: Sequence[Speed]) -> Iterable[str]:
    yield "## Speed\n"
    yield "Encoding 32 prompts and reporting on them, over encoding them; medians of paired repeats.\n"
    yield "| task | ratio | p90 | encoding, s |\n|---|---|---|---|"
    for row in rows:
        yield f"| {row.task} | {row.ratio:.2f} | {row.p90:.2f} | {row.encoding_s:.2f} |"


def _picture(result: DriftResult, path: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}):
        figure = Figure(figsize=(11, 3), layout="constrained")
        axes = figure.subplots(1, 4, sharey=True)
        panels = [
            ("no drift", None),
            ("10 % from elsewhere", 0.1),
            ("25 % from elsewhere", 0.25),
            ("wholly elsewhere", 1.0),
        ]
        for axis, (title, share) in zip(axes, panels, strict=True):
            _panel(axis, result.false_alarms if share is None else [row for row in result.power if row.share == share])
            axis.set_title(title)
        axes[0].set_ylabel("windows rejected at .05")
        axes[0].legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


def _panel(axis: Axes, source: Sequence[FalseAlarms | Power]) -> None:
    for test, style in (("energy", ":"), ("outliers", "-."), ("mixture", "--"), ("together", "-")):
        rows = [row for row in source if (row.test, row.level) == (test, 0.05)]
        axis.plot([row.n for row in rows], [row.rate for row in rows], style, marker="o", label=test)
    axis.axhline(0.05, color="grey", linewidth=0.8)
    axis.set(xscale="log", xticks=[8, 16, 32, 64], xlabel="prompts in the window", ylim=(-0.02, 1.02))
    axis.set_xticklabels(["8", "16", "32", "64"])
    axis.minorticks_off()

"""A report in words: the verdict as one sentence, and what limits it."""

import math
from collections.abc import Mapping, Sequence

from cao.drift import DriftReport
from cao.model.encoder import MAX_TOKENS
from cao.tasks.prompt_text import blank
from tools.detect_drift.order import ORDER_LEVEL
from tools.detect_drift.window import MIN_PROMPTS

NOT_IDENTIFIABLE = "concept drift is not identifiable without labels: answers may turn wrong while the prompts stay"
NOT_COMPARED = (
    "how many answers are right is compared with nothing: no outcomes of this model are known of the nearest task"
    " (python -m agent.reference add NAME SOURCE makes a reference of prompts with theirs)"
)

SMALL_REFERENCE = 64
"""Reference prompts below which a report says that little can be told from them."""


def sentence(report: DriftReport) -> str:
    """Return a report's verdict as one sentence that a person understands, without its full stop."""
    evidence = f"p = {report.p_value:.3g}, level {report.alpha:g}"
    current = _several(report.current)
    if report.kind == "insufficient":
        return f"no verdict from {_prompts(report.n)}; {_nearest(report)}" if report.nearest_task else "no verdict"
    if report.kind == "not_covered":
        verb = "differ" if report.drifted else "do not differ"
        unnamed = f"they {verb} from {current} ({evidence}), and no task is named"
        return f"the encoder does not cover these prompts; {unnamed}"
    if report.kind == "none":
        kept = [name for name in report.current if name in report.not_rejected]
        behind = f", then {_closest_of(report, kept)}" if report.nearest_task not in kept else ""
        return f"no drift: cannot be told from {_several(kept)} ({evidence}); {_nearest(report)}{behind}"
    if report.kind == "concept":
        assert report.feedback is not None, "concept drift needs feedback"
        share = report.feedback.correct / report.feedback.answered
        return (
            f"concept drift: the prompts look like {report.feedback.task}, but {share:.0%} of the answers are right"
            f" where {report.feedback.reference_accuracy:.0%} were (p = {report.feedback.p_value:.3g})"
        )
    if report.kind == "domain_transfer":
        return f"drifted to something new: no known task explains the prompts ({evidence}); {_nearest(report)}"
    if report.not_rejected:
        return f"drifted away from {current} ({evidence}) to {_several(report.not_rejected)}, which is known"
    if report.shares:
        parts = sorted(report.shares.items(), key=lambda part: -part[1])
        mixed = ", ".join(f"{share:.0%} {name}" for name, share in parts if share >= 0.05)
        return f"drifted away from {current} ({evidence}): the prompts look like a mixture of known tasks ({mixed})"
    return f"the model's option signals drifted away from {current} ({evidence}), the prompts did not"


def small_print(report: DriftReport, prompts: Sequence[str], cut: int, foreign: int) -> list[str]:
    """Return what limits a verdict, each a sentence without its full stop.

    Args:
        report: the verdict.
        prompts: the window as given.
        cut: prompts that are longer than the encoder reads.
        foreign: prompts in a script that the encoder does not cover.
    """
    caveats = []
    empty = blank(prompts)
    repeats = len(prompts) - empty - (report.drawn_from or report.n)
    if empty:
        caveats.append(f"{empty} of {len(prompts)} prompts are blank and were left out")
    if repeats:
        share = report.duplicate_rate
        caveats.append(f"{repeats} of {len(prompts)} prompts ({share:.0%}) repeat another one and were left out")
    if report.drawn_from:
        error = 1.96 * math.sqrt((1 - report.n / report.drawn_from) / (4 * report.n))
        caveats.append(
            f"{report.n} of {report.drawn_from} distinct prompts were drawn at random and tested; any share of them is"
            f" that of all to within {100 * error:.1f} points (95 %)"
        )
    if cut:
        length = f"longer than {MAX_TOKENS} tokens; the encoder did not see their end"
        caveats.append(f"{cut} of {report.n} prompts are {length}")
    if not report.n:
        caveats.append(f"no prompt was left to measure; {MIN_PROMPTS} distinct ones are enough for a verdict")
    elif report.n < MIN_PROMPTS:
        caveats.append(f"{report.n} distinct prompts are too few for a verdict; {MIN_PROMPTS} are enough")
    if foreign:
        caveats.append(f"the encoder does not cover the script of {foreign} of {report.n} prompts")
    return caveats + _resolution(report) + _order(report)


def in_reference(same: int, report: DriftReport) -> list[str]:
    """Return a caveat where prompts of the window are the nearest reference's own: they are no new draw of its task."""
    task = report.nearest_task
    told = f"{same} of {report.n} prompts are the reference {task}'s own; new ones would look further from it"
    return [told] if same else []


def small_references(sizes: Mapping[str, int]) -> list[str]:
    """Return a caveat for each known task with so small a sample that tests against it see little."""
    return [
        f"the reference {name} holds only {size} prompts; {SMALL_REFERENCE} or more would tell more"
        for name, size in sizes.items()
        if size < SMALL_REFERENCE
    ]


def _resolution(report: DriftReport) -> list[str]:
    if report.smallest_p is None:
        return []
    stated = f"the smallest p-value that this test can give is {report.smallest_p:.3g}"
    if report.smallest_p > report.alpha:
        return [f"{stated}, above the level {report.alpha:g}: no drift can be found; use more permutations or prompts"]
    return [f"{stated}, coarse for the level {report.alpha:g}"] if report.smallest_p > report.alpha / 10 else []


def _order(report: DriftReport) -> list[str]:
    if report.order_p is None or report.order_p > ORDER_LEVEL:
        return []
    return [
        f"neighbouring prompts resemble each other (p = {report.order_p:.3g}): the window changes within itself or"
        " holds twins, and false alarms are likelier than the level says; shuffle the source or take every k-th prompt"
    ]


def _nearest(report: DriftReport) -> str:
    name = report.nearest_task
    assert name is not None, "nothing is near"
    if report.kind == "insufficient" and report.none_of_these:
        return f"none of the known tasks looks likely, the closest is {name}"
    return f"nearest is {name} (effect size {report.score:.2f} of 1)" if report.n > 1 else f"nearest is {name}"


def _closest_of(report: DriftReport, names: Sequence[str]) -> str:
    name = min(names, key=lambda name: report.known[name].effect)
    return f"{name} ({report.known[name].effect:.2f})"


def _prompts(n: int) -> str:
    return "one prompt" if n == 1 else f"{n} prompts"


def _several(names: Sequence[str]) -> str:
    return " or ".join(names) if len(names) < 3 else f"any of {', '.join(names)}"

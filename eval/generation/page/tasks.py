"""The parts of ``generation.md`` that go task by task."""

from collections import Counter

from cao.tasks.files.keys import listed
from eval.generation.results import Change, GenerationResult, Interval, KindScore, Neighbours, TaskResult
from eval.pages.markdown import table


def between(interval: Interval, digits: int, scale: float = 1) -> str:
    """Return an interval in words, signed."""
    low, high = interval
    return f"{scale * low:+.{digits}f} to {scale * high:+.{digits}f}"


def points(change: float) -> str:
    """Return a change of the accuracy in points, signed."""
    return f"{100 * change:+.1f}"


def changed(change: Change | None) -> tuple[str, str, str]:
    """Return a change of the NLL, of the accuracy and of the log-loss, nothing for the base model's."""
    if change is None:
        return "", "", ""
    return (
        f"{change.nll:+.4f} ({between(change.nll_ci95, 3)})",
        f"{points(change.accuracy)} ({between(change.accuracy_ci95, 1, 100)})",
        f"{change.log_loss:+.4f} ({between(change.log_loss_ci95, 3)})",
    )


def far_sources(result: GenerationResult) -> str:
    """Return which source is near which task."""
    paper = any(task.paper for task in result.tasks.values())
    rows = [
        [name, ", ".join(task.subjects), f"`{task.variant}`", *_near(task.near), *(_near(task.paper) if paper else ())]
        for name, task in result.tasks.items()
    ]
    heads = ["", "subject", "generator", "nearest source (cosine)", "sources of its subject"]
    heads += ["nearest of `paper`", "of its subject"] if paper else []
    note = (
        "No generator here saw the task that it serves, but it may have seen one like it: the source whose prompts are "
        "nearest by embedding, and the sources that are about the same subject."
    )
    return f"## Which sources are near\n\n{note}\n\n{table(heads, rows)}"


def _near(near: Neighbours | None) -> tuple[str, str]:
    if near is None:
        return "", ""
    found: dict[str, list[str]] = {}
    for each in sorted(near.nearest.values(), key=lambda each: each.cosine):
        found.setdefault(each.source, []).append(f"{each.cosine:.2f}")
    nearest = [f"{source} ({'–'.join(dict.fromkeys((own[0], own[-1])))})" for source, own in found.items()]
    return ", ".join(nearest), f"{len(near.sharing)}: {listed(near.sharing, 4)}" if near.sharing else "none"


def tasks(result: GenerationResult) -> str:
    """Return a table for each task."""
    return "\n".join(["## Task by task\n", *(_task(name, task) for name, task in result.tasks.items())])


def _task(name: str, task: TaskResult) -> str:
    place = "in domain" if task.in_domain else "out of domain"
    tested = "; ".join(
        f"{kind}: McNemar p = {tests.mcnemar_p:.3g} (first seed, {tests.gained} gained, {tests.lost} lost), "
        f"NLL lower p = {tests.nll_p:.2g}"
        for kind, tests in task.tests.items()
    )
    heads = ["", "gold NLL per character", "change (95 %)", "default rule", "best rule", "change in points (95 %)"]
    rows = [_row(kind, score) for kind, score in task.rows.items()]
    return (
        f"### {name}\n\n{place}, never seen by its generator (`{task.variant}`), {task.n} questions; guessing "
        f"{100 * task.chance:.1f} %; wrong prompts from {', '.join(task.wrong)}.\n\n"
        f"{table([*heads, 'log-loss', 'at chance', 'best rules'], rows)}\n{tested}.\n"
    )


def _row(kind: str, score: KindScore) -> list[str]:
    low, high = score.ci95
    nll, accuracy, _ = changed(score.change)
    guessing = f"{score.at_chance} of {score.seeds}" if score.at_chance else ""
    rules = ", ".join(f"{rule} ({count})" if count > 1 else rule for rule, count in Counter(score.rules).items())
    best = f"{100 * score.accuracy:.1f} % ({100 * low:.0f}–{100 * high:.0f})"
    default = f"{100 * score.default_accuracy:.1f} %"
    return [kind, f"{score.nll:.4f}", nll, default, best, accuracy, f"{score.log_loss:.4f}", guessing, rules]


def versus(result: GenerationResult) -> str:
    """Return how the judged kinds differ from everything else, task by task, in NLL and in accuracy."""
    parts = ["## Against the controls\n"]
    for title, place in (
        ("Difference of the gold NLL per character; negative is better.\n", 0),
        ("Difference of the accuracy in points, each side by its own best rule; positive is better.\n", 1),
    ):
        parts.append(title)
        for kind, aims in result.every.aims.items():
            others = [other for other in aims.against if other != "base"]
            rows = []
            for name, task in result.tasks.items():
                if kind in task.versus:
                    found = [task.versus[kind].get(other) for other in others]
                    rows.append([name, *(changed(change)[place] or "–" for change in found)])
            parts.append(table([f"{kind} minus", *others], rows))
    return "\n".join(parts)

"""What the pages of adapters say alike: their beginning, verdicts, and what is absent."""

from collections.abc import Callable, Mapping, Sequence

from eval.pages.markdown import table
from eval.paper.adapters.results import Difference, Setting
from eval.paper.verdicts.verdict import Verdict


def header(title: str, result: Setting) -> str:
    """Return a page's beginning: what made it, of which model, with which generators."""
    seeds = ", ".join(map(str, result.seeds))
    made = ", ".join(f"`{name}` {sha256[:12]}…" for name, sha256 in result.generators.items()) or "none"
    shared = (
        "one code, model, device and dtype" if result.code else "one model, device and dtype, of code that is not known"
    )
    return f"""# {title}

Made on {result.measured} by

    {result.command}

{result.model} (sha256 {result.model_sha256[:12]}…), {result.dtype}, device {result.device}; seeds {seeds}; \
generators: {made}. Cells of fingerprint {result.fingerprint[:12]}…: {shared}. The \
paper's figures are those of Qwen2.5-Instruct.
"""


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Return the paper's claims with what is found of them."""
    rows = [[each.claim, f"**{each.verdict}**", each.figure, each.reason] for each in verdicts]
    return "## The paper's claim\n\n" + table(["claim", "", "figure", ""], rows)


def absences(rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is absent and why, tasks with one reason together.

    Args:
        rows: what a row is called → task → why it has none.
    """
    lines = list[str]()
    for title, absent in rows.items():
        reasons: dict[str, list[str]] = {}
        for task, reason in absent.items():
            reasons.setdefault(reason.replace(task, "TASK"), []).append(task)
        lines += [f"- {title}, {', '.join(tasks)}: {reason}" for reason, tasks in reasons.items()]
    return ["## n/a\n", "\n".join(lines) + "\n"] if lines else []


def differences(found: Sequence[Difference], text: Callable[[Difference], str]) -> list[str]:
    """Return the differences of rows, each on what both have.

    Args:
        found: of the table.
        text: says one with its interval.
    """
    if not found:
        return []
    rows = [[each.what, text(each), str(each.n)] for each in found]
    return ["## Differences on what both have\n", table(["", "mean (95 %)", "n"], rows)]

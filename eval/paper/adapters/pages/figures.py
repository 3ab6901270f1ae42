"""The page of Figures 3 to 5."""

from pathlib import Path

from eval.paper.adapters.pages import pictures
from eval.paper.adapters.pages.wording import header, verdict_table
from eval.paper.adapters.results import FiguresResult


def figures_parts(result: FiguresResult, folder: Path) -> list[str]:
    """Draw the pictures and return the page's parts.

    Args:
        result: what was measured.
        folder: of the pictures.
    """
    layer, layers = result.layer
    place = f"{result.module} of layer {layer} of {layers}"
    pictures.heat(result.mean, result.departures, f"ΔW of {place}, mean over tasks", folder / "figure3.svg")
    pictures.signatures(result.signature, result.varying, folder / "figure4.svg")
    grids: dict[str, pictures.Grids] = {
        name: {
            f"{each.title}": (each.tasks, each.whole),
            f"{each.title}, less the mean": (each.tasks, each.centred),
        }
        for name, each in result.similarities.items()
    }
    for name, drawn in grids.items():
        pictures.matrices(drawn, folder / f"figure5-{name}.svg")
    return [
        header("The paper's Figures 3 to 5, drawn here", result),
        _told(result),
        verdict_table(result.verdicts),
        f"## Figure 3: ΔW of {place}\n",
        f"Each entry stands for {result.block[0]} × {result.block[1]} of ΔW: the one of the largest magnitude. The "
        "first seed; every panel has its own scale.\n",
        "![ΔW of a middle layer](figure3.svg)\n",
        "## Figure 4: signatures\n",
        "The norm of ΔW in every layer, for each kind of module; right, how much of it depends on the task.\n",
        "![Signatures of adapters](figure4.svg)\n",
        "## Figure 5: how alike adapters and latents are\n",
        *(_similar(result, name) for name in result.similarities),
        *(f"n/a: {name}: {why}\n" for name, why in (*result.missing.items(), *result.absent.items())),
    ]


def _told(result: FiguresResult) -> str:
    seen = f" Of these tasks, {', '.join(result.seen)} were among its sources." if result.seen else ""
    return (
        f"One generator, `{result.variant}`, serves all tasks here, so that adapters differ by their prompts alone."
        f"{seen} Cosines are of ΔW over all modules, mean over seeds. “Less the mean” takes off what the adapters of "
        "all tasks share; then the cosines of T tasks are −1/(T − 1) on average where there is no structure.\n"
    )


def _similar(result: FiguresResult, name: str) -> str:
    each = result.similarities[name]
    return f"Mean length of {each.title}: {each.length:g}.\n\n![Cosines of {each.title}](figure5-{name}.svg)\n"

"""How pictures look, and how they are saved: as SVG files that are the same for the same figures."""

from pathlib import Path

from matplotlib.figure import Figure

STYLE = {
    "svg.hashsalt": "cao",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
DARK = {
    **STYLE,
    "figure.facecolor": "#0d1117",
    "axes.facecolor": "#0d1117",
    "savefig.facecolor": "#0d1117",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#d0d7de"),
}
"""The same on a dark page."""
OURS = "#1f5fa8"
JUDGED = "#c2410c"
BEST = "#15803d"
FALSE = "#b91c8c"
GREY = "#888888"
"""Colours: what is made by us, what is judged, the best that is possible, false prompts, controls."""


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture as an SVG file without a date."""
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})

"""What pages have in common."""

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        heads: of the columns.
        rows: cells of each row, as many as there are heads.
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def with_interval(value: float, ci95: Sequence[float], form: str = "+.1f", scale: float = 100, unit: str = "") -> str:
    """Return an estimate with its interval in brackets, such as ``+1.2 (-0.3 to +2.7)``.

    Args:
        value: the estimate.
        ci95: the interval's lower and upper end.
        form: format of each number; signed for a change, else an amount.
        scale: what each number is multiplied by: 100 for per cent and points.
        unit: said behind the estimate.
    """
    shown, low, high = (_zero_unsigned(format(scale * number, form), form) for number in (value, *ci95))
    return f"{shown}{unit} ({low} to {high})"


def _zero_unsigned(text: str, form: str) -> str:
    """Return a number as it is formatted; what rounds to zero is not negative."""
    return text if float(text) else format(0.0, form)

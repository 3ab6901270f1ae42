"""What a table is: rows, and the pairs of rows that it compares."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        number: of it.
        title: on its page.
        rows: their names, in the page's order.
        pairs: (row, other): what is compared, corrected for the number of all of them.
        anchors: rows that are measured even where ``--methods`` does not name them, since others are held against them.
        chosen: rows among which one is chosen for each task; none where the table does not ask.
        about: a sentence on what the rows are.
        of_rows: row → a sentence that is told where the row was measured.
    """

    number: str
    title: str
    rows: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    anchors: tuple[str, ...]
    chosen: tuple[str, ...] = ()
    about: str = ""
    of_rows: Mapping[str, str] = field(default_factory=dict)

    def wanted(self, methods: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the rows to measure, in the table's order."""
        asked = self.rows if methods is None else (*methods, *self.anchors)
        return tuple(row for row in self.rows if row in asked)

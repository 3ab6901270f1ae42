"""Reports, read as a browser does."""

from html.parser import HTMLParser
from pathlib import Path

from agent.record.page.questions import keep_questions
from agent.record.page.report import write_report
from cao.tasks.base import choice_example
from cao.tasks.splits import Splits
from cao.types import Item
from tools.evaluate import save_items

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(path: Path) -> tuple[str, Page]:
    html = write_report(path).read_text(encoding="utf-8")
    return html, Page(html)


ASKED = [f"How many wings have {n} birds?" for n in range(260)]


def answered(path: Path, base: list[int], adapted: list[int]) -> Path:
    """Keep questions of two choices, the second of which is right, with what two models chose."""
    examples = [choice_example(text, [f"{n}", f"{2 * n}"], 1) for n, text in enumerate(ASKED[: len(base)], 1)]
    keep_questions(path, Splits([], examples[:2], examples))
    for name, chosen in (("test-baseline", base), ("test-adapted", adapted)):
        rows = zip(examples, chosen, strict=True)
        items = [Item(id=e.id, scores=(0, 0), choice=c, gold=1, correct=c == 1, loss=1.0) for e, c in rows]
        save_items(path / "items" / f"{name}.jsonl", items)
    return path

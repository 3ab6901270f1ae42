"""What makes a site of the documents, as hooks of mkdocs: ``make site``.

The documents are written for a repository: they link to files beside docs/, and docs/README.md says what to read for
which need. So the site's navigation is that page's sections, and every file outside docs/ that a page links to becomes
a page of the site, under repository/.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = "repository"
"""Where on the site the files lie that are none of docs/."""
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
"""Where a link leads, without its fragment."""
FENCE = re.compile(r"^```.*?^```", flags=re.M | re.S)
LANGUAGES = {".py": "python", ".toml": "toml", ".ipynb": "json", ".yaml": "yaml", ".yml": "yaml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the navigation from docs/README.md: its sections, and in each the pages in their order."""
    index = (Path(config.docs_dir) / "README.md").read_text(encoding="utf-8")
    nav: list[object] = ["README.md"]
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        targets = [_target(Path("docs/README.md"), link) for link in LINK.findall(body)]
        nav.append({title: [_place(target) for target in targets if target is not None]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file outside docs/ that a page links to, and what those link to in turn."""
    ahead = [Path("docs") / file.src_uri for file in files.documentation_pages()]
    seen = set(ahead)
    while ahead:
        source = ahead.pop()
        for target in _linked(source):
            if target in seen or target.is_relative_to("docs"):
                continue
            seen.add(target)
            ahead.append(target)
            inclusion = InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, _place(target), content=_content(target), inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where their files lie on the site."""
    place = Path(page.file.src_uri)
    inside = not place.is_relative_to(OUTSIDE)
    source = Path("docs") / place if inside else place.relative_to(OUTSIDE)

    def moved(found: re.Match[str]) -> str:
        target = _target(source, found[1])
        return found[1] if target is None else os.path.relpath(_place(target), place.parent)

    kept = iter(FENCE.findall(markdown))
    parts = [LINK.sub(moved, part) for part in FENCE.split(markdown)]
    return "".join(part + next(kept, "") for part in parts)


def _target(source: Path, link: str) -> Path | None:
    """Return what a page's link leads to, from the root; None where that is no file of ours."""
    target = Path(os.path.normpath(source.parent / link))
    return None if re.match(r"[a-z]+:", link) or not (ROOT / target).exists() else target


def _linked(source: Path) -> Iterator[Path]:
    """Yield what a page links to, or what a folder holds."""
    if (ROOT / source).is_dir():
        yield from _held(source)
    elif source.suffix == ".md":
        links = LINK.findall(FENCE.sub("", (ROOT / source).read_text(encoding="utf-8")))
        yield from (target for target in (_target(source, link) for link in links) if target is not None)


def _held(folder: Path) -> list[Path]:
    return sorted(file.relative_to(ROOT) for file in (ROOT / folder).iterdir() if file.is_file())


def _place(target: Path) -> str:
    """Return where a file of the repository lies on the site, as mkdocs names its source."""
    if target.is_relative_to("docs"):
        place = target.relative_to("docs")
        return (place / "README.md" if (ROOT / target).is_dir() else place).as_posix()
    name = target.name if target.suffix == ".md" else f"{target.name}.md"
    return (Path(OUTSIDE) / target.parent / name).as_posix()


def _content(target: Path) -> str:
    """Return the page of a file outside docs/: Markdown as it is, anything else as a block of its text."""
    if (ROOT / target).is_dir():
        links = [f"- [{one.name}]({target.name}/{one.name})\n" for one in _held(target)]
        return f"# {target}\n\n{''.join(links)}"
    text = (ROOT / target).read_text(encoding="utf-8")
    if target.suffix == ".md":
        return text
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {target}\n"
    return f"{head}\n````{LANGUAGES.get(target.suffix, 'text')}\n{text.rstrip()}\n````\n"

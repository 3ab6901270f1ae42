"""The site: built of every document without a warning, whose links to files beside docs/ lead to pages of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")


def local(text: str) -> list[str]:
    """The files of the site that a page of it refers to."""
    return [each for each in re.findall(r'(?:href|src)="([^"#?]+)', text) if not re.match(r"[a-z]+:", each)]


def fetched(text: str) -> list[str]:
    """What a browser would load from elsewhere to show a page."""
    scripts = re.findall(r'<(?:script|img|iframe)[^>]+src="https?:', text)
    return scripts + re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="https?:', text)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_its_links_lead_to_its_own_pages(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(tmp_path.rglob("*.html"))}
    assert len(pages) > 100
    del pages[tmp_path / "404.html"]  # served at any depth, so it names the site's root
    for path, text in pages.items():
        lost = [target for target in local(text) if not (path.parent / target).resolve().exists()]
        assert (lost, fetched(text)) == ([], []), path.relative_to(tmp_path)

    guide = pages[tmp_path / "guides/swapping-parts.html"]
    (source,) = set(re.findall(r'href="([^"]+agent/config\.py\.html)"', guide))
    assert "class" in (tmp_path / "guides" / source).read_text(encoding="utf-8")
    assert 'href="guides/swapping-parts.html"' in pages[tmp_path / "index.html"]

    reference = pages[tmp_path / "reference/api.html"]
    assert "Adapt the language model to a task" in reference
    assert "::: agent" not in reference

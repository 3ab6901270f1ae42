"""The pages in docs/ come out of the figures beside them: read from JSON and written again, they are the same."""

import json
from pathlib import Path

from eval.policies import page as policies
from eval.policies.results import PoliciesPage, PoliciesResult

DOCS = next(path.parent for path in Path(__file__).parents[3].glob("docs/**/policies.json"))


def same(written: Path, *names: str) -> None:
    for name in names:
        assert (written / name).read_bytes() == (DOCS / name).read_bytes(), name


def test_the_page_of_policies_comes_out_of_its_figures(tmp_path: Path) -> None:
    figures = json.loads((DOCS / "policies.json").read_bytes())
    assert PoliciesPage.model_validate(figures).names(held_out=True)
    policies.write_page(
        PoliciesResult(**{name: getattr(whole, name) for name in PoliciesResult.model_fields}), tmp_path
    )
    same(tmp_path, "policies.md", "policies-first.svg", "policies-landscape.svg")
    assert json.loads((tmp_path / "policies.json").read_bytes()) == figures

"""The guide's example runs as it stands, on a tiny model in the place of the embedded one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_guides_example_runs(
    roomy_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/guides/python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    named = 'model="smollm2-135m",'
    assert example.count(named) == 1
    tiny = f'model="qwen2.5-0.5b", model_path={str(roomy_model_folder)!r}, policy="random", offline=True,'
    monkeypatch.chdir(tmp_path)
    exec(compile(example.replace(named, tiny), "python.md", "exec"), {})
    told = capsys.readouterr().out
    assert "end conclude" in told
    assert re.search(r"^(improved|no_improvement) [\d.]+ .*report\.html$", told, flags=re.M)
    assert told.endswith("question 1: 'question' is blank\n")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]

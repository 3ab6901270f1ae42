"""Questions of a program: what pandas and numpy hold is read as what a file would state."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.api.given import as_task
from agent.api.options import plain


def test_values_of_numpy_become_plain_ones(tmp_path: Path) -> None:
    row: dict[str, Any] = {"question": np.str_("Which flies?"), "answer": np.int64(1), "sure": np.bool_(True)}
    row |= {"choices": np.array(["dog", "bird"], dtype=object), "parts": np.array([{"n": np.float32(0.5)}])}
    (line,) = Path(as_task([row], "questions", tmp_path)).read_text().splitlines()
    assert json.loads(line) == {
        "question": "Which flies?",
        "answer": 1,
        "sure": True,
        "choices": ["dog", "bird"],
        "parts": [{"n": 0.5}],
    }
    assert plain({"out": tmp_path, "seed": np.int32(3)}) == {"out": str(tmp_path), "seed": 3}


@pytest.mark.parametrize("missing", [float("nan"), np.float64("nan")])
def test_a_missing_answer_of_pandas_is_absent(tmp_path: Path, missing: float) -> None:
    rows = [{"question": "Which flies?", "answer": "bird"}, {"question": "Which swims?", "answer": missing}]
    lines = Path(as_task(rows, "questions", tmp_path)).read_text().splitlines()
    assert json.loads(lines[1]) == {"question": "Which swims?", "answer": None}

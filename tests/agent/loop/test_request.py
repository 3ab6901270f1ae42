"""Mistakes and plans are told before anything that computes is imported, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cao.files import canonical_json
from cao.machine.compute import Rates, keep_rates, probe_key
from cao.machine.processor import usable_processors

ROOT = Path(__file__).parents[3]
SLOW = ("torch", "transformers", "langgraph", "sklearn", "scipy", "safetensors", "datasets", "sentence_transformers")
PROGRAM = f"""
import json, sys
from {{module}} import main
status = main(json.loads(sys.argv[1]))
sys.stdout.flush()
sys.stderr.write(json.dumps([status, [name for name in {SLOW} if name in sys.modules]]))
"""


def ask(module: str, *words: str, **environment: str) -> tuple[int, list[str], str, str]:
    """Return a command's status, the slow packages that it imported, and what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module), json.dumps(words)],
        **{"capture_output": True, "text": True, "check": True, "cwd": ROOT, "timeout": 120},
        env={**os.environ, **environment},
    )
    *told, last = done.stderr.split("\n")
    status, imported = json.loads(last)
    return status, imported, done.stdout, "\n".join(told)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    good = [{"question": f"How much is {a} plus {a}?", "choices": [str(2 * a), "1"], "answer": 0} for a in range(60)]
    contents = {
        "bad": '{"question": "q", "choices": ["a", "b"], "answer": 0}\n{"question": \n',
        "good": "".join(json.dumps(row) + "\n" for row in good),
        "plan": "",
    }
    for name, text in contents.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    return {name: str(tmp_path / f"{name}.jsonl") for name in contents}


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--task", "gsmk8"], 2, "did you mean gsm8k?"),
        (["--task", "{bad}"], 2, "bad.jsonl:2:"),
        (["--task", "{good}", "--policy", "oracle"], 2, "unknown policy 'oracle'"),
        (["--task", "{good}", "--describer", "poet"], 2, "unknown describer 'poet'"),
        (["--task", "{good}", "--set", "seed=-1"], 2, "configuration: seed"),
        (["--task", "{good}", "--reward", "900"], 2, "give --support 1 --reward 47 --test 12"),
        (
            ["--task", "{good}", "--support", "8", "--reward", "12", "--test", "12", "--policy", "fixed"],
            2,
            "strategy_file",
        ),
        (["--resume", "nothing", "--out", "{good}"], 2, "no run 'nothing'"),
    ],
)
def test_a_mistake_is_told_before_anything_slow_is_imported(
    words: list[str], status: int, told: str, files: dict[str, str]
) -> None:
    found, imported, out, err = ask("agent.run", *(word.format(**files) for word in words))
    assert (found, imported, out) == (status, [], "")
    assert told in err
    assert "\n" not in err


@pytest.mark.parametrize("more", [[], ["--minutes", "60"]])
def test_a_plan_from_kept_rates_needs_nothing_slow(files: dict[str, str], tmp_path: Path, more: list[str]) -> None:
    plan = plan_of(files, more, OMP_NUM_THREADS="1")
    assert plan["compute"]["rates"]
    assert plan["compute"]["threads"] == 1
    assert 0 < plan["estimated_total_seconds"][0] < plan["estimated_total_seconds"][1]


def plan_of(files: dict[str, str], more: list[str], **environment: str) -> dict[str, Any]:
    sizes = ["--support", "8", "--reward", "12", "--test", "12", "--dry-run", "--json"]
    status, imported, out, err = ask("agent.run", "--task", files["good"], *sizes, *more, **environment)
    assert (status, imported) == (0, []), err
    return dict(json.loads(out))


def test_the_rates_that_a_plan_finds_are_those_that_a_run_kept(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is the same with torch, which this process has imported, and without."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rates = Rates(float32=3e9, bfloat16=1e9, least_gain=0.3, noisy=False)
    keep_rates(rates, canonical_json(probe_key()))  # one thread here: see tests/conftest.py
    compute = plan_of(files, [], OMP_NUM_THREADS="1")["compute"]
    assert compute["rates"] == rates.model_dump()
    assert compute["dtype"] == "float32"


@pytest.mark.slow
def test_a_plan_without_kept_rates_measures_them(files: dict[str, str], tmp_path: Path) -> None:
    sizes = ["--support", "8", "--reward", "12", "--test", "12", "--dry-run", "--json"]
    status, imported, out, err = ask("agent.run", "--task", files["good"], *sizes, XDG_CACHE_HOME=str(tmp_path))
    assert status == 0, err
    assert "torch" in imported
    assert "transformers" not in imported
    assert json.loads(out)["compute"]["rates"]["float32"] > 1e8
    assert len(list((tmp_path / "cao-llm" / "rates").iterdir())) == 1


@pytest.mark.slow
def test_the_threads_that_the_environment_says_are_those_that_torch_has() -> None:
    code = (
        "import sys\nfrom cao.machine.processor import compute_threads\n"
        "found, without = compute_threads(), 'torch' not in sys.modules\n"
        "import torch\nprint(found == torch.get_num_threads(), without)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(usable_processors())}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "True True"

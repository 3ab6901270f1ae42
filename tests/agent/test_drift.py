"""The drift command: its help, its refusals, and what it writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.drift import main
from agent.stages.drift import line
from cao.drift import DriftReport
from cao.tasks.prompt_file import read_windows

SCIENCE = [f"Which {thing} {does}?" for thing in ("planet", "plant", "metal", "animal") for does in (
    "needs the most energy from the sun", "changes its mass when it is heated", "is found in the Earth's crust",
    "lives or lies deepest in the ocean",
)]  # fmt: skip
SUMS = [f"{name} buys {n} boxes of pens for ${n + 3} each. How much does {name} pay in total?" for name in (
    "Anna", "Tom", "Maria", "Jamal") for n in (4, 7, 12, 25)]  # fmt: skip


def lines(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_help_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, agent.drift\n"
        "try: agent.drift.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--windows FILE" in done.stdout


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('["a"]\n["b",\n', "w.jsonl:2: not JSON"),
        ('["a"]\n{"prompts": ["b"]}\n', "w.jsonl:2: expected a JSON list of prompts as on the lines before"),
        ('["a"]\nb\n', "w.jsonl:2: expected a JSON list of prompts as on the lines before"),
        ('"a"\n["b"]\n', "w.jsonl:2: expected a prompt as on the lines before"),
        ('{"prompts": ["b"]}\n', "w.jsonl:1: expected an object with 'prompt'"),
        ('["a", "b", 3]\n', "w.jsonl:1, prompt 3: expected a string, found int"),
        ('["a", null]\n', "w.jsonl:1, prompt 2: expected a string"),
        ('["\\ud800"]\n', "w.jsonl:1, prompt 1: holds half of a Unicode surrogate pair"),
        ('[{"a": ' * 50_000, "w.jsonl:1: not JSON"),
        (b"\xff\xfe", "w.jsonl: UTF-16; make it UTF-8: iconv -f UTF-16"),
        ('["a"]\n[\n "b"\n]\n', "w.jsonl:2: not JSON"),
        ("", "holds no window"),
    ],
)
def test_bad_windows_exit_2_with_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes, reason: str
) -> None:
    path = tmp_path / "w.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["--windows", str(path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "bad",
    [
        ["--alpha", "0"],
        ["--alpha", "1"],
        ["--alpha", "nan"],
        ["--seed", "-1"],
        ["--permutations", "0"],
        ["--permutations", "9999999"],
        ["--windows", "absent.jsonl"],
    ],
)
def test_impossible_options_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: list[str]) -> None:
    windows = lines(tmp_path / "w.jsonl", [SUMS])
    assert main(["--windows", windows, *bad]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert bad[0] in err or bad[1] in err


@pytest.mark.parametrize(("permutations", "largest"), [(9_000_000, 16), (900_000, 8000)])
def test_permutations_that_would_fill_memory_are_refused_with_both_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], permutations: int, largest: int
) -> None:
    windows = lines(tmp_path / "w.jsonl", [SUMS, [f"sum {i}" for i in range(largest)]])
    assert main(["--windows", windows, "--permutations", str(permutations)]) == 2
    err = capsys.readouterr().err
    assert f"--permutations {permutations}" in err
    assert f"GB for the window of {largest} prompts in --windows" in err


@pytest.mark.parametrize(
    ("content", "size", "windows"),
    [
        ('"a"\n\n"b"\n"c"', None, [["a", "b", "c"]]),
        ('{"prompt": "a"}\n{"question": "b"}\n{"content": "c"}\n', 2, [["a", "b"], ["c"]]),
        ("\ufeffplain words\r\n[x] is text\r\n", None, [["plain words", "[x] is text"]]),
        ('{"messages": [{"role": "user", "content": "a"}]}\n[{"role": "user", "content": "b"}]\n', 5, [["a", "b"]]),
        ('["a", {"prompt": "b"}]\n[]\n', None, [["a", "b"], []]),
    ],
)
def test_a_file_is_windows_or_prompts(tmp_path: Path, content: str, size: int | None, windows: list[list[str]]) -> None:
    path = tmp_path / "w"
    path.write_bytes(content.encode())
    assert [[one.prompt for one in window] for window in read_windows(path, size)] == windows


def test_lists_are_not_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--windows", lines(tmp_path / "w.jsonl", [SUMS]), "--window", "4"]) == 2
    assert "holds lists of prompts, which are windows already" in capsys.readouterr().err


@pytest.mark.parametrize("registry", ["nowhere", "w.jsonl"])
def test_a_registry_that_is_no_folder_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], registry: str
) -> None:
    windows = lines(tmp_path / "w.jsonl", [SUMS])
    assert main(["--windows", windows, "--registry", str(tmp_path / registry)]) == 2
    assert f"{registry}: no such folder" in capsys.readouterr().err


def test_a_line_holds_the_verdict_and_its_limits() -> None:
    drift = DriftReport(
        score=0.0,
        p_value=1.0,
        drifted=False,
        nearest_task=None,
        kind="insufficient",
        sentence="no verdict",
        caveats=("8 are enough",),
    )
    assert line(3, drift) == "window 3, 0 prompts: no verdict. 8 are enough."


@pytest.mark.integration
def test_reports_one_line_for_each_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    reference = lines(tmp_path / "science.jsonl", [{"question": text} for text in SCIENCE])
    windows = lines(tmp_path / "w.jsonl", [SUMS, SCIENCE[::-1], SUMS[:3] * 4, []])
    command = ["--reference", reference, "--windows", windows, "--seed", "7", "--permutations", "199"]
    assert main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    reports = [json.loads(line) for line in out.splitlines()]
    assert [r["kind"] for r in reports] == ["domain_transfer", "none", "insufficient", "insufficient"]
    assert [r["drifted"] for r in reports] == [True, False, False, False]
    assert [r["n"] for r in reports] == [16, 16, 3, 0]
    assert reports[0]["p_value"] == 1 / 200
    assert reports[0]["current"] == ["science"]
    assert reports[1]["score"] == pytest.approx(0, abs=1e-5)  # the reference's own prompts
    assert any("(75%) repeat" in caveat for caveat in reports[2]["caveats"])
    assert main([*command, "--json"]) == 0  # from the cache
    assert capsys.readouterr().out == out
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("window 1, 16 prompts: drifted")
    text = tmp_path / "w.txt"
    text.write_text("".join(f"{prompt}\n" for prompt in [*SUMS, *SCIENCE[::-1], *SUMS[:3] * 4]))
    assert main([*command[:2], "--windows", str(text), "--window", "16", *command[4:], "--json"]) == 0
    assert capsys.readouterr().out.splitlines() == out.splitlines()[:3]
    assert main(["--reference", "no_such_task", "--windows", windows]) == 2
    assert "no_such_task" in capsys.readouterr().err

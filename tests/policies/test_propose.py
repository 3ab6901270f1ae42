"""The command: its answer, its exit statuses, and how fast it says what it can do."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from policies.propose import check_proposal, main, read_context

GOOD = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'


@pytest.fixture
def context(tmp_path: Path) -> str:
    path = tmp_path / "context.txt"
    path.write_text("Word problems.\nThe answer is a number.\n")
    return str(path)


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.jsonl"
    path.write_text(f"{GOOD}\nnonsense\n")
    return str(path)


def test_json_is_one_object_a_line(context: str, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--context", context, "--policy", "fixed", "--strategy-file", script, "--n", "3", "--json"]) == 0
    good, bad, again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert good == {"raw": GOOD, "valid": True, "strategy": json.loads(GOOD), "reason": ""}
    assert (bad["raw"], bad["valid"], bad["strategy"]) == ("nonsense", False, None)
    assert "not JSON" in bad["reason"]
    assert again == good


def test_the_table_is_for_people(context: str, script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--context", context, "--policy", "fixed", "--set", f"strategy_file={script}", "--n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith('valid     {"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}')
    assert "rejected  'nonsense': not JSON" in lines[1]
    assert lines[2] == "1 of 2 are valid strategies"


def test_the_local_policy_runs_from_a_folder(
    context: str, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--context",
        context,
        "--model-path",
        str(tiny_model_folder),
        "--n",
        "2",
        "--json",
        "--offline",
    ]
    assert main([*arguments, "--seed", "4"]) == 0
    first = capsys.readouterr().out
    assert main([*arguments, "--seed", "4"]) == 0
    assert capsys.readouterr().out == first
    assert [json.loads(line)["valid"] for line in first.splitlines()] == [True, True]


@pytest.mark.parametrize("policy", ["portfolio", "surrogate"])
def test_a_policy_that_was_learnt_for_a_model_has_it_loaded(
    policy: str, context: str, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = next(iter(MODELS))
    sha256 = load_language_model(MODELS[name], path=str(tiny_model_folder), offline=True).sha256
    point = {"strategy": json.loads(GOOD), "mean": 0.1, "weights": []}
    surrogate = {"features": [], "centre": [], "scale": [], "points": [point]}
    (tmp_path / "parts" / name).mkdir(parents=True)
    learnt = {"base_sha256": sha256, "portfolio": [json.loads(GOOD)], "surrogate": surrogate}
    (tmp_path / "parts" / name / "selection.json").write_text(json.dumps(learnt))
    words = ["--policy", policy, "--model-path", str(tiny_model_folder), "--pretrained", str(tmp_path / "parts")]
    assert main(["--context", context, *words, "--n", "1", "--json", "--offline"]) == 0
    assert json.loads(capsys.readouterr().out)["strategy"] == json.loads(GOOD)


def test_the_remote_policy_runs_against_a_local_server(
    context: str, server: Any, http: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.will(http.answer(http.completion(f'{{"strategy": {GOOD}}}')))
    arguments = [
        "--context",
        context,
        "--policy",
        "openai",
        "--offline",
        "--set",
        f"base_url={server.url}",
        "--n",
        "1",
    ]
    assert main(arguments) == 0
    assert "1 of 1 are valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--policy", "oracle"], 2, "unknown policy"),
        (["--policy", "fixed"], 2, "strategy_file"),
        (["--policy", "fixed", "--strategy-file", "/nowhere/file"], 2, "cannot be read"),
        (["--policy", "openai", "--offline"], 3, "not on this machine"),
        (["--policy", "openai"], 3, "export OPENAI_API_KEY"),
        (["--model", "gpt-9"], 2, "unknown model"),
        (["--model-path", "/nowhere"], 3, "no model folder"),
        (["--set", "top_p"], 2, "key=value"),
        (["--set", "top_p=7"], 2, "top_p"),
        (["--set", "topp=0.7"], 2, "topp"),
        (["--n", "0"], 2, "--n"),
        (["--seed", "-1"], 2, "--seed"),
    ],
)
def test_expected_errors_are_one_line_with_their_status(
    context: str,
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["--context", context, *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"\xff\xfe\xfa",
        b"x" * 1_000_001,
        b"{",
        b'{"task": 3}',
        b'{"familie": []}',
        b'{"families": ["TTT"]}',
        b'{"a":' * 9999,
        b'{"history": [{"attempt": 1, "accepted": false, "reason": "x", "strategy": {}}]}',
        b'{"withheld": {"Calibrate": {"nokey": ["a"]}}}',
        b'{"withheld": {"TTL": {"ttl_steps": ["a"]}}}',
        b'{"withheld": {"TTL": {"peft": ["dora"]}}}',
        b'{"withheld": {"Calibrate": {"prior": ["none", "choice", "batch"]}}}',
    ],
)
def test_a_bad_context_file_is_exit_2(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "context"
    path.write_bytes(content)
    assert main(["--context", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert main(["--context", str(tmp_path / "absent")]) == 2


def test_a_context_may_state_any_subset_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "context.json"
    trial = {"attempt": 1, "strategy": json.loads(GOOD), "accepted": False, "reason": "no"}
    path.write_text(json.dumps({"task_context": "τ", "families": ["Latent"], "history": [trial]}))
    context = read_context(path)
    assert (context.task_context, context.families, len(context.history)) == ("τ", ("Latent",), 1)
    path.write_text("{}")
    assert read_context(path).families == ("TTL", "LORA", "TTS", "Latent", "Calibrate")


@given(st.binary(max_size=300))
def test_any_file_is_a_context_or_bad_input(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-context"
    path.write_bytes(content)
    try:
        context = read_context(path)
    except InputError:
        return
    assert context.families


ALMOST = st.builds(
    lambda body, start, end: f"{start}{json.dumps(body)}{end}",
    st.dictionaries(
        st.sampled_from(["family", "ttl_steps", "lambda", "slot_lr", "slot_steps", "__class__"]),
        st.one_of(
            st.sampled_from(["TTL", "TTT", "LORA", "Latent"]),
            st.integers(),
            st.floats(),
            st.booleans(),
            st.none(),
        ),
    ),
    st.sampled_from(["", "\ufeff", "Sure: ", "```json\n"]),
    st.sampled_from(["", "\n```", "}", '{"family": "TTL"}']),
)


@given(st.one_of(st.text(max_size=200), ALMOST))
def test_any_output_of_a_policy_is_judged_and_never_raises(raw: str) -> None:
    proposal = check_proposal(raw)
    assert proposal.valid == (proposal.strategy is not None) == (proposal.reason == "")
    assert "\n" not in proposal.reason
    line = json.dumps(proposal.model_dump(), allow_nan=False)
    assert json.loads(line)["raw"] == raw


def test_help_answers_without_torch() -> None:
    call = "try:\n propose.main(['--help'])\nexcept SystemExit:\n print('torch' in sys.modules)"
    code = f"import sys\nfrom policies import propose\n{call}"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.splitlines()[-1] == "False"
    assert "--context FILE" in result.stdout

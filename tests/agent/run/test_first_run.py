"""A first run, with nothing in the cache, shows our lines alone, on a terminal and elsewhere."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cao.errors import UnavailableError
from cao.machine import assets

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TRAINING = '{"family": "TTL", "ttl_steps": 1, "learning_rate": 1e-5, "batch_size": 2, "shuffle_data": false}\n'
OURS = re.compile(
    r" {20}[a-z].* …"  # a step begins
    r"| {10} *\d+\.\d s  [a-z].*"  # it ended
    r"| {10}[a-z].*: \d+ of \d+"
    r"|(describe|detect|generate|align|choose|evaluate|decide|apply|conclude) +\d+\.\d s  .*"
)
FOREIGN = re.compile(r"it/s|%\||Warning:|warn\(|Token indices|is deprecated|\.py:\d+")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small run that also trains, with a prompt longer than the encoder reads; the cache is empty."""
    try:
        assets.smollm2_gguf()
        assets.minilm_folder()
    except UnavailableError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "strategies.jsonl").write_text(TRAINING)
    questions = tmp_path / "sums.jsonl"
    rows = [{"question": f"What follows {i}?", "choices": [str(i + 1), str(i)], "answer": 0} for i in range(24)]
    rows[0]["question"] = "What follows? " * 150
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *(sys.executable, "-m", "agent.run", "--task", str(questions), "--offline"),
        *("--support", "8", "--reward", "8", "--test", "8", "--max-attempts", "1", "--policy", "fixed"),
        *("--set", f"policy_settings.strategy_file={tmp_path / 'strategies.jsonl'}", "--out", str(tmp_path / "runs")),
    ]


def test_every_line_is_ours_where_there_is_no_terminal(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stderr.splitlines()
    assert [line for line in lines if not OURS.fullmatch(line)] == []
    assert sum(line.endswith("converting the model, once …") for line in lines) == 1
    assert sum(line.endswith(" s  converting the model, once") for line in lines) == 1


def test_no_bar_and_no_warning_of_a_library_is_seen_on_a_terminal(command: list[str]) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        seen = bytearray()
        while True:
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:  # what Linux says when the last process has left the terminal
                break
            if not chunk:
                break
            seen += chunk
        code = process.wait(timeout=60)
    os.close(ours)
    shown = ESCAPES.sub("", seen.decode("utf-8", "replace"))
    assert code == 0, shown
    assert FOREIGN.search(shown) is None, shown
    assert len(re.findall(r"\d s  converting the model, once", shown)) == 1

"""The watch command: what it refuses, what an interrupt or a kill leaves, and that it adapts by the real graph."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.watch import main
from tests.agent.killing import killed
from tests.agent.stream.colours import kinds


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--stream", "nowhere.jsonl"], "no such file"),
        (["--stream", "x", "--window", "3"], "--window 3: Input should be greater than or equal to 8"),
        (["--stream", "x", "--seed", "-1"], "--seed -1"),
        (["--stream", "x", "--window", "8193"], "--window 8193: Input should be less than or equal to 8192"),
        (["--stream", "{}"], "is a directory"),
        (
            ["--stream", "{}/t.csv"],
            "t.csv: is a table, and a stream has one prompt a line; agent.drift --windows",
        ),
        (["--stream", "{}/fifo"], "fifo: is no regular file and cannot be read anew after a stop; give --stream - < "),
        (["--stream", "{}/s", "--registry", "{}/nowhere"], "nowhere: no such folder"),
        (["--stream", "{}/s", "--registry", "{}/s"], "s: no such folder"),
        (["--stream", "{}/s", "--adapt", "--config", "{}/nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--stream", "{}/s", "--adapt", "--config", "{}"], "cannot be read"),
        (["--stream", "{}/s", "--adapt", "--config", "{}/s"], "not TOML"),
        (["--stream", "{}/s", "--adapt", "--config", "{}/key.toml"], "key.toml: colour: unknown key"),
        (["--stream", "{}/s", "--adapt", "--config", "{}/model.toml"], "unknown model 'no-such'"),
        (["--stream", "{}/s", "--adapt", "--config", "{}/policy.toml"], "unknown policy 'no-such'"),
        (["--stream", "{}/s", "--adapt", "--seed", "9999999999"], "configuration: seed"),
    ],
)
def test_bad_options_exit_2_before_anything_is_written(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "s").write_text("a prompt\n")
    (tmp_path / "t.csv").write_text("question\nWhy?\n")
    for name, line in (("key", "colour = 1"), ("model", 'model = "no-such"'), ("policy", 'policy = "no-such"')):
        (tmp_path / f"{name}.toml").write_text(line)
    given = [part.replace("{}", str(tmp_path)) for part in arguments]
    assert main([*given, "--out", str(tmp_path / "w")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


SUMS = [f"{name} buys {n} boxes of pens for ${n + 3} each. How much does {name} pay in total?" for name in (
    "Anna", "Tom", "Maria", "Jamal", "Lena", "Omar") for n in range(4, 20)]  # fmt: skip


@pytest.mark.integration
def test_a_watch_that_nobody_reads_is_interrupted_and_goes_on(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text("a prompt\n")
    (tmp_path / "t.csv").write_text("question\nWhy?\n")
    argv = ["--stream", str(tmp_path / "s"), "--out", str(tmp_path / "w")]
    command = [sys.executable, "-m", "agent.watch", *argv]
    read, write = os.pipe()
    os.close(read)
    unread = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (unread.returncode, unread.stderr) == (130, "")
    assert main(argv) == 0
    told = capsys.readouterr().out
    assert told.startswith("watching for prompts")
    assert "the stream ended: 1 prompt, 0 alarms" in told
    assert main(argv) == 0
    assert "s has nothing new; --follow waits for more" in capsys.readouterr().err


@pytest.mark.integration
def test_a_stream_of_which_nothing_can_be_read_exits_2(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text('{"body": "x"}\n' * 340)
    argv = ["--stream", str(tmp_path / "s"), "--out", str(tmp_path / "w")]
    for _ in range(2):  # and again where the watch goes on
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out.count("skipped: expected an object") <= 1
        assert "s: no prompt could be read: 340 (expected an object with 'prompt'" in err


def from_pipe(fifo: Path, argv: list[str]) -> int:
    """The command with a named pipe as its standard input."""
    sys.stdin = fifo.open()
    return main(argv)


@pytest.mark.integration
@pytest.mark.slow
def test_kill_and_resume_gives_the_same_events(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cao.tasks import get_task
    from cao.tasks.splits import part

    own = list({example.group: example.prompt for example in part(get_task("piqa"), "support")}.values())[:100]
    stream = tmp_path / "stream.jsonl"
    stream.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in [*own, *SUMS]))
    command = ["--reference", "piqa", "--window", "32", "--json", "--offline"]
    assert main([*command, "--stream", str(stream), "--out", str(tmp_path / "whole")]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert kinds(events)[:4] == ["start", "alarm", "window", "new_task"]
    assert 100 < events[1]["prompt"] <= 112
    lines = stream.read_text().splitlines(keepends=True)
    command += ["--stream", "-", "--out", str(tmp_path / "w")]
    state, journal, fifo = tmp_path / "w" / "state.json", tmp_path / "w" / "journal.jsonl", tmp_path / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR), "w") as pipe:
        pipe.write("".join(lines[:110]))
        pipe.flush()
        rest = ["".join(lines[110:130])]

        def has_more() -> bool:
            """The first lines were read and forgotten, then more came and was written down."""
            if not state.exists() or json.loads(state.read_text())["prompts"] < 110:
                return False
            if rest and not journal.read_bytes():
                pipe.write(rest.pop())
                pipe.flush()
            return not rest and (bool(journal.read_bytes()) or json.loads(state.read_text())["prompts"] == 130)

        killed(has_more, from_pipe, fifo, command)
    (tmp_path / "rest").write_text("".join(lines[130:]))
    with (tmp_path / "rest").open() as given:
        monkeypatch.setattr(sys, "stdin", given)
        assert main(command) == 0
    assert "going on behind prompt" in capsys.readouterr().err
    again = [json.loads(line) for line in (tmp_path / "w" / "events.jsonl").read_text().splitlines()]
    assert kinds(again) == kinds(events)
    assert again[1] == events[1]
    assert again[-1]["prompts"] == events[-1]["prompts"] == len(lines)


@pytest.mark.integration
@pytest.mark.slow
def test_adapts_to_what_came_by_the_real_graph_and_goes_on_after_a_kill_within_it(
    tmp_path: Path, data: Path, tiny_model_folder: Path
) -> None:
    from cao.model.adapters import load_adapter
    from cao.tasks import get_task
    from cao.tasks.splits import part

    own = list({example.group: example.prompt for example in part(get_task("piqa"), "support")}.values())[:60]
    new = [
        {"question": f"the bird can fly {n} times. what can the bird do?", "answer": n % 2,
         "choices": ["Who", "the bird can fly"] if n % 2 else ["the bird can fly", "Who"]}
        for n in range(45)
    ]  # fmt: skip
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*own, *new]))
    steps = {"family": "TTL", "ttl_steps": 20, "learning_rate": 0.01, "batch_size": 2, "shuffle_data": True}
    (tmp_path / "plan.jsonl").write_text(json.dumps(steps) + "\n")
    (tmp_path / "c.toml").write_text(
        f'model = "qwen2.5-0.5b"\nmodel_path = "{tiny_model_folder}"\npolicy = "fixed"\n'
        f'max_attempts = 1\naccept = "any"\npolicy_settings.strategy_file = "{tmp_path}/plan.jsonl"\n'
    )
    command = ["--stream", str(tmp_path / "s.jsonl"), "--reference", "piqa", "--window", "32", "--json", "--offline",
               "--adapt", "--config", str(tmp_path / "c.toml"), "--out", str(tmp_path / "w")]  # fmt: skip
    begun = tmp_path / "w" / "runs" / "drift-1"
    killed(lambda: any(begun.glob("*/checkpoints.sqlite")), main, command)
    assert len(list(begun.iterdir())) == 1
    assert main(command) == 0
    events = [json.loads(line) for line in (tmp_path / "w" / "events.jsonl").read_text().splitlines()]
    told = [kind for kind in kinds(events) if kind != "thinned"]
    assert told == ["start", "alarm", "window", "new_task", "expect", "adapter", "end"]
    assert (events[-1]["prompts"], events[5]["stored"]) == (105, False)
    assert len(list(begun.iterdir())) == 1  # the run that was cut off went on
    deployed = json.loads((tmp_path / "w" / "deployed.json").read_text())
    assert deployed["tasks"] == ["drift-1"]
    assert load_adapter(tmp_path / "w" / deployed["adapter"]).rank == 8

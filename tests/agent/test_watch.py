"""The watched stream: its lines, its events, and that a kill neither loses a prompt nor doubles an alarm."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agent.stream.source import MAX_LINE, FileSource, PipeSource, next_lines, prompt_of
from agent.stream.state import WatchState
from agent.stream.watcher import Watcher
from agent.stream.wording import words
from agent.watch import main
from cao.model.encoder import Encoder
from tests.agent.killing import killed
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.wording import NOT_IDENTIFIABLE

WORDS = {"red": 0, "blue": 1, "green": 2}


class ColourEncoder(Encoder):
    """A prompt's colour gives its direction and its text the noise, so that a stream needs no network."""

    sha256 = "e" * 64

    def tokens(self, prompts: list[str]) -> list[int]:
        return [len(prompt.split()) for prompt in prompts]

    def embed(self, prompts: list[str], batch_size: int = 32) -> Tensor:
        rows = [torch.zeros(0, 16)]
        for prompt in prompts:
            noise = torch.randn(16, generator=torch.Generator().manual_seed(zlib.crc32(prompt.encode())))
            noise[WORDS[prompt.split()[0]]] += 8
            rows.append(noise[None])
        return torch.nn.functional.normalize(torch.cat(rows), dim=1)


def prompts(colour: str, n: int, begin: int = 0) -> list[str]:
    return [f"{colour} thing number {7 * i} of {i * i}" for i in range(begin, begin + n)]


def watch(
    folder: Path, stream: list[str], adapt: Any = None, encoder: Encoder | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Watch a stream of red and blue where red is expected; return the events on disk."""
    folder.mkdir(exist_ok=True)
    path = folder / "stream.jsonl"
    path.write_text("".join(f"{line}\n" for line in stream))
    encoder = encoder or ColourEncoder(folder)
    known = KnownTasks({name: Reference(encoder.embed(prompts(name, 300, 5000))) for name in ("red", "blue")}, ("red",))
    defaults = {"threshold": 1000, "window": 32, "seed": 0, "reference": ["red"]}
    held = folder / "state.json"
    state = (
        WatchState.model_validate_json(held.read_bytes())
        if held.exists()
        else WatchState(settings={**defaults, **settings}, current=["red"])
    )
    Watcher(folder, FileSource(path), encoder, known, state, lambda event: None, adapt).run()
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


# --- lines


def test_lines_come_whole_and_with_their_offsets(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"one\n\ntwo\nlast")
    source = FileSource(path)
    assert next_lines(source, 0) == [(b"one", 4), (b"", 5), (b"two", 9)]
    assert next_lines(source, 9) == [(b"last", 13)]
    assert next_lines(source, 13) == []


def test_a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"x" * (3 * MAX_LINE) + b"\nnext\n")
    (long, end), *rest = next_lines(FileSource(path), 0)
    assert (len(long), end) == (MAX_LINE + 1, 3 * MAX_LINE + 1)
    assert (rest or next_lines(FileSource(path), end)) == [(b"next", 3 * MAX_LINE + 6)]


def test_pipe_is_written_down_first_and_forgotten_when_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"one\ntwo\nthr")
    monkeypatch.setattr(sys, "stdin", os.fdopen(read))
    source = PipeSource(tmp_path / "journal")
    assert next_lines(source, 0) == [(b"one", 4), (b"two", 8)]
    assert (tmp_path / "journal").read_bytes() == b"one\ntwo\nthr"
    assert source.release(8) == 0
    assert (tmp_path / "journal").read_bytes() == b"thr"  # a part of a line is left
    assert source.release(8) == 0  # a kill came before the new offset was written down
    os.write(write, b"ee\n")
    os.close(write)
    assert next_lines(source, 0) == [(b"three", 6)]
    assert source.release(6) == 0
    assert (tmp_path / "journal").read_bytes() == b""
    assert next_lines(source, 0) == []


class Log:
    """A log that is written, rotated and cut while it is followed, and what a watch reads of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.folder, self.monkeypatch = folder / "log", folder / "w", monkeypatch
        self.folder.mkdir()
        self.read: list[str] = []
        self.notes: list[str] = []

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def rotate(self, name: str = "log.1") -> None:
        os.rename(self.path, self.path.with_name(name))

    def cut(self) -> None:
        os.truncate(self.path, 0)

    def follow(self, *steps: Any) -> dict[str, Any]:
        """Watch the log, taking a step whenever the watch waits for more; return the last event."""
        log, left = self, list(steps)

        class Reader(ColourEncoder):
            def embed(self, prompts: list[str], batch_size: int = 32) -> Tensor:
                log.read += [prompt for prompt in prompts if prompt not in known_prompts]
                return super().embed(prompts, batch_size)

        def wait(seconds: float) -> None:
            if left:
                left.pop(0)()
            else:
                source.follow = False

        known_prompts = prompts("red", 300, 5000)
        encoder = Reader(self.folder)
        source = FileSource(self.path, follow=True, tell=self.notes.append)
        self.monkeypatch.setattr("agent.stream.source.time.sleep", wait)
        known = KnownTasks({"red": Reference(encoder.embed(known_prompts))})
        held = self.folder / "state.json"
        state = WatchState(settings={"threshold": 1e9, "window": 32, "seed": 0}, current=["red"])
        state = WatchState.model_validate_json(held.read_bytes()) if held.exists() else state
        Watcher(self.folder, source, encoder, known, state, lambda event: None).run()
        last: dict[str, Any] = json.loads((self.folder / "events.jsonl").read_text().splitlines()[-1])
        return last


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(tmp_path, monkeypatch)


def test_a_file_that_is_cut_is_read_from_its_beginning_and_said_so_once(log: Log) -> None:
    log.write("red 1\nred 2\n")
    log.follow(log.cut, lambda: log.write("red 3\n"), lambda: log.write("red 4\n"))
    assert log.read == ["red 1", "red 2", "red 3", "red 4"]
    assert log.notes == [f"{log.path}: was cut; reading what stands there now from its beginning"]


def test_a_file_that_is_cut_and_grows_longer_than_before_is_noticed_too(log: Log) -> None:
    log.write("red 1\nred 2\n")

    def begin_anew() -> None:
        log.cut()
        log.write("red 33\nred 44\nred 55\n")

    log.follow(begin_anew)
    assert log.read == ["red 1", "red 2", "red 33", "red 44", "red 55"]
    assert len(log.notes) == 1


def test_a_rotated_file_is_read_to_its_end_and_then_what_took_its_place(log: Log) -> None:
    log.write("red 1\n")

    def rotate() -> None:
        log.write("red 2\nred 3")  # the last line lacks its line feed
        log.rotate()

    log.follow(rotate, lambda: log.write("red 4\n"))
    assert log.read == ["red 1", "red 2", "red 3", "red 4"]
    assert log.notes == [
        f"{log.path}: was replaced and read to its end; reading what stands there now from its beginning"
    ]


def test_an_empty_file_may_be_rotated_and_a_longer_copy_in_its_place_goes_on(log: Log) -> None:
    log.write("")
    log.follow(log.rotate, lambda: log.write("red 1\n"), log.rotate, lambda: log.write("red 1\nred 2\n"))
    assert log.read == ["red 1", "red 2"]


@pytest.mark.parametrize(
    ("between", "read", "note"),
    [
        ("cut", ["red 3", "red 4"], "is not what was read before"),
        ("cut and grown", ["red 33", "red 44", "red 3", "red 4"], "is not what was read before"),
        ("rotated", ["red 2b", "red 3", "red 4"], "was replaced and read to its end"),
        ("rotated and gone", ["red 3", "red 4"], "is not what was read before"),
        ("nothing", ["red 3", "red 4"], None),
    ],
)
def test_a_watch_goes_on_in_the_right_file_after_a_stop(
    log: Log, between: str, read: list[str], note: str | None
) -> None:
    log.write("red 1\nred 2\n")
    log.follow()
    log.read.clear()
    if between.startswith("rotated"):
        log.write("red 2b\n")
        log.rotate()
    if between.endswith("gone"):
        (log.path.parent / "log.1").unlink()
    if between.startswith("cut"):
        log.cut()
    if between.endswith("grown"):
        log.write("red 33\nred 44\n")
    log.write("red 3\nred 4\n")
    assert log.follow()["prompts"] == 2 + len(read)
    assert log.read == read
    assert len(log.notes) == (note is not None)
    assert all(note is not None and note in told for told in log.notes)


@pytest.mark.parametrize(
    ("line", "prompt", "reason"),
    [
        (b"plain words", "plain words", None),
        (b'{"question": "why?", "context": "a tale"}', "a tale\nwhy?", None),
        (b'"quoted"', "quoted", None),
        (b'"Hello" she said. Why?', '"Hello" she said. Why?', None),
        (b"{x | x > 0} is what?", "{x | x > 0} is what?", None),
        (b'\xef\xbb\xbf{"question": "why?"}', "why?", None),
        ("\u200b\u0301".encode(), None, None),
        (b"  ", None, None),
        (b'{"question": " "}', None, None),
        (b'{"content": "why?"}', "why?", None),
        (b'{"role": "user", "content": [{"type": "text", "text": "why?"}, {"type": "image_url"}]}', "why?", None),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "b", None),
        (b'[{"role": "user", "content": "why?"}, {"role": "assistant", "content": "so"}]', "why?", None),
        (b"[x for x in y] does what?", "[x for x in y] does what?", None),
        (b'{"question"', None, "not JSON, but begins like it"),
        (b"\xff\xfe", None, "not text in UTF-8"),
        (b'{"text": "x"}', None, "expected an object with 'prompt', 'question', 'content' or 'messages'"),
        (b'["a", "b"]', None, "expected a string, found list"),
        (b'{"role": "assistant", "content": "so"}', None, "a message of another role than 'user' is no prompt"),
        (b'{"messages": [{"role": "system", "content": "a"}]}', None, "a chat without a message of the user"),
        (b"x" * (MAX_LINE + 1), None, "longer than 100,000 bytes"),
    ],
)
def test_a_line_is_a_prompt_or_is_skipped_with_a_reason(line: bytes, prompt: str | None, reason: str | None) -> None:
    assert prompt_of(line) == (prompt, reason)


# --- events


def test_an_undrifted_stream_raises_no_alarm_and_repeats_do_not_count(tmp_path: Path) -> None:
    stream = [*prompts("red", 150), *prompts("red", 20), "", '{"broken'] * 2
    events = watch(tmp_path / "w", stream)
    assert kinds(events) == ["start", "skipped", "end"]
    assert (events[-1]["prompts"], events[-1]["alarms"]) == (150, 0)
    assert events[-1]["skipped"] == len(stream) - 150


def test_unreadable_lines_are_counted_and_the_first_for_each_reason_is_shown(tmp_path: Path) -> None:
    stream = ['{"text": "x"}'] * 340 + ['["a"]', *prompts("red", 1), *['["a"]'] * 1200]
    events = watch(tmp_path / "w", stream)
    object_, list_ = (event["reason"] for event in events[1:3])
    assert [(e["line"], e["count"]) for e in events if e["event"] == "skipped"] == [(1, 1), (341, 1), (1342, 1001)]
    assert events[-1]["unreadable"] == {object_: 340, list_: 1201}
    assert words(events[-1]).endswith(f"1541 skipped, of which could not be read: 340 ({object_}), 1201 ({list_})")
    assert words(events[1]) == f"line 1 skipped: {object_}"
    assert words(events[3]) == f"line 1342 skipped: {list_} (1001 such lines so far)"


def test_known_and_new_tasks_are_named_and_a_task_that_comes_back_is_recognised(tmp_path: Path) -> None:
    adapted: list[str] = []

    def adapt(task: str, path: Path) -> dict[str, Any]:
        adapted.append(task)
        assert len(path.read_text().splitlines()) == 32
        (tmp_path / "w" / "runs" / task / "adapter").mkdir(parents=True)
        return {"run": f"runs/{task}", "told": "improved"}

    stream = [
        *prompts("red", 60),
        *prompts("blue", 60),
        *prompts("green", 80),
        *prompts("blue", 60, 100),
        *prompts("green", 60, 100),
    ]
    events = watch(tmp_path / "w", stream, adapt)
    changes = [event["tasks"] for event in events if event["event"] == "expect"]
    assert changes == [["blue"], ["drift-1"], ["blue"], ["drift-1"]]
    assert kinds(events).count("alarm") == 4
    assert kinds(events).count("new_task") == 1
    assert adapted.count("drift-1") == 1  # the second time its adapter was there
    stored = [event for event in events if event["event"] == "adapter" and event["task"] == "drift-1"]
    assert [event["stored"] for event in stored] == [False, True]
    deployed = json.loads((tmp_path / "w" / "deployed.json").read_text())
    assert deployed == {"tasks": ["drift-1"], "run": "runs/drift-1", "adapter": "runs/drift-1/adapter"}
    reports = [event["report"]["kind"] for event in events if event["event"] == "window"]
    assert reports == ["covariate", "domain_transfer", "covariate", "covariate"]
    alarm = next(event for event in events if event["event"] == "alarm")
    assert 61 <= alarm["prompt"] <= 70
    assert 55 <= alarm["since"] <= alarm["prompt"]


class TwinEncoder(ColourEncoder):
    """Prompts that differ in their last word alone are nearly the same."""

    def embed(self, prompts: list[str], batch_size: int = 32) -> Tensor:
        alike = super().embed([prompt.rsplit(" ", 1)[0] for prompt in prompts])
        return torch.nn.functional.normalize(alike + 0.02 * super().embed(prompts), dim=1)


def test_a_new_kind_that_comes_in_twins_raises_no_more_alarms_than_promised(tmp_path: Path) -> None:
    alarms = []
    for begin in range(0, 5000, 1000):
        twins = [f"{prompt} {word}" for prompt in prompts("green", 200, begin) for word in ("now", "then")]
        events = watch(tmp_path / str(begin), [*prompts("red", 60), *twins], encoder=TwinEncoder(tmp_path), window=64)
        alarms.append(events[-1]["alarms"])
        thinned = next(event for event in events if event["event"] == "thinned")
        assert (thinned["every"], thinned["holds"]) == (2, True)
        assert "one in 2 is judged" in words(thinned)
    assert min(alarms) >= 1
    assert sum(alarms) - 5 <= 2  # 5 × 330 prompts behind the first window, one alarm in 1,000


def test_state_is_bounded_and_a_finished_stream_says_nothing_twice(tmp_path: Path) -> None:
    stream = [*prompts("red", 40), *prompts("blue", 60)]
    first = watch(tmp_path / "w", stream, threshold=100_000)  # no false alarm by chance
    assert watch(tmp_path / "w", stream) == first
    longer = watch(tmp_path / "w", [*stream, *prompts("blue", 30, 500)])
    assert longer[: len(first)] == first
    assert kinds(longer[len(first) :]) == ["end"]
    assert longer[-1]["prompts"] == 130


@pytest.mark.parametrize("stop", range(3, 14))
def test_a_stop_at_any_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    stream = [*prompts("red", 60), *prompts("blue", 60), *prompts("green", 60)]
    whole = watch(tmp_path / "whole", stream)

    class StopError(Exception):
        pass

    count = 0
    write = Watcher.log

    def stopping(self: Watcher, event: str, **data: Any) -> None:
        nonlocal count
        count += 1
        write(self, event, **data)
        if count == stop:
            raise StopError

    monkeypatch.setattr(Watcher, "log", stopping)
    try:
        watch(tmp_path / "w", stream)
    except StopError:
        monkeypatch.setattr(Watcher, "log", write)
        assert watch(tmp_path / "w", stream) == whole
    else:
        assert stop > len(whole)


def test_events_in_words() -> None:
    assert words({"event": "alarm", "prompt": 7, "since": 5}) == (
        "ALARM at prompt 7; the change may have begun at prompt 5"
    )
    assert "no adapter for drift-1: why" in words({"event": "not_adapted", "task": "drift-1", "reason": "why"})


def test_a_window_in_words_tells_its_limits_but_not_those_of_every_window() -> None:
    prompts = [f"{colour} thing number {i}" for i in range(4) for colour in WORDS] + ["red " + "word " * 400]
    encoder = ColourEncoder(Path())
    known = KnownTasks({"red": Reference(encoder.embed([f"red thing {i}" for i in range(80)]))})
    report = detect_drift(prompts, None, known, encoder=encoder)
    assert NOT_IDENTIFIABLE in report.caveats
    told = words({"event": "window", "alarm": 1, "report": report.model_dump(mode="json")})
    assert told.startswith(f"the 13 prompts behind it: {report.sentence}. 1 of 13 prompts are longer than")
    assert NOT_IDENTIFIABLE not in told
    assert words(
        {"event": "window", "report": {"n": 9, "sentence": "so", "caveats": ["a", NOT_IDENTIFIABLE, "b"]}}
    ) == ("the 9 prompts behind it: so. a. b")


def test_a_run_that_adopted_several_adapters_is_deployed_by_its_strategy(tmp_path: Path) -> None:
    stream = [*prompts("red", 60), *prompts("green", 60)]
    events = watch(tmp_path / "w", stream, lambda task, path: {"run": "runs/x", "told": "improved"})
    deployed = json.loads((tmp_path / "w" / "deployed.json").read_text())
    assert deployed == {"tasks": ["drift-1"], "run": "runs/x", "adapter": None}
    assert "deployed for drift-1: runs/x/strategy.json (improved)" in [words(event) for event in events]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--stream", "nowhere.jsonl"], "no such file"),
        (["--stream", "x", "--window", "3"], "--window 3: Input should be greater than or equal to 8"),
        (["--stream", "x", "--seed", "-1"], "--seed -1"),
        (["--stream", "x", "--window", "8193"], "--window 8193: Input should be less than or equal to 8192"),
        (["--stream", "{}"], "is a directory"),
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
    for name, line in (("key", "colour = 1"), ("model", 'model = "no-such"'), ("policy", 'policy = "no-such"')):
        (tmp_path / f"{name}.toml").write_text(line)
    given = [part.replace("{}", str(tmp_path)) for part in arguments]
    assert main([*given, "--out", str(tmp_path / "w")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


# --- the command


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own data are kept out."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


SUMS = [f"{name} buys {n} boxes of pens for ${n + 3} each. How much does {name} pay in total?" for name in (
    "Anna", "Tom", "Maria", "Jamal", "Lena", "Omar") for n in range(4, 20)]  # fmt: skip


@pytest.mark.integration
def test_a_watch_that_nobody_reads_is_interrupted_and_goes_on(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text("a prompt\n")
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
    assert "the stream ended: 1 prompts" in told


@pytest.mark.integration
def test_a_stream_of_which_nothing_can_be_read_exits_2(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text('{"text": "x"}\n' * 340)
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
        {"question": f"the bird can fly {n} times. what can the bird do?", "choices": ["#7{4q~", "the bird can fly"],
         "answer": 1}
        for n in range(45)
    ]  # fmt: skip
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*own, *new]))
    steps = {"family": "TTL", "ttl_steps": 20, "learning_rate": 0.01, "batch_size": 2, "shuffle_data": True}
    (tmp_path / "plan.jsonl").write_text(json.dumps(steps) + "\n")
    (tmp_path / "c.toml").write_text(
        f'model = "qwen2.5-0.5b"\nmodel_path = "{tiny_model_folder}"\npolicy = "fixed"\nmax_attempts = 1\n'
        f'policy_settings.strategy_file = "{tmp_path}/plan.jsonl"\n'
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

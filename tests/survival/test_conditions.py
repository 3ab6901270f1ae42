"""What a machine does to a run besides killing it: a clock that goes back, a folder that is shut, two for one run."""

import ctypes
import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.run import main
from tests.agent.killing import forked
from tests.survival.conftest import Whole
from tests.survival.deaths import DIED, Death, lived, until
from tests.survival.records import same

pytestmark = pytest.mark.slow

DAY_S = 86_400


def days_back(days: int, argv: list[str]) -> int:
    """The run command where the clock is so many days behind what it was."""
    now, now_ns, calendar = time.time, time.time_ns, time.gmtime
    time.time = lambda: now() - days * DAY_S
    time.time_ns = lambda: now_ns() - days * DAY_S * 10**9
    time.gmtime = lambda *given: calendar(*(given or [time.time()]))
    return main(argv)


def one_day_back(argv: list[str]) -> int:
    return days_back(1, argv)


def two_days_back(argv: list[str]) -> int:
    return days_back(2, argv)


def test_a_clock_that_goes_back_between_processes_changes_nothing(whole: Whole, tmp_path: Path) -> None:
    argv = [*whole.argv, "--out", str(tmp_path)]
    assert lived(main, argv, Death(window=whole.windows // 2)) == DIED
    [folder] = tmp_path.glob("[!.]*")
    resume = [*argv, "--resume", folder.name]
    assert lived(one_day_back, resume, Death(window=whole.windows // 4)) == DIED
    assert lived(two_days_back, resume) == 0
    assert same(folder, whole)


def test_two_that_want_one_run_do_not_both_get_it(whole: Whole, tmp_path: Path) -> None:
    argv = [*whole.argv, "--out", str(tmp_path)]
    assert lived(main, argv, Death(window=whole.windows // 2)) == DIED
    [folder] = tmp_path.glob("[!.]*")
    resume = [*argv, "--resume", folder.name]
    both = [forked(main, resume), forked(main, resume)]
    for process in both:
        process.join()
    ended = sorted(process.exitcode or 0 for process in both)
    assert ended in ([0, 0], [0, 2])  # the second was refused, or came once the first had ended
    assert same(folder, whole)


def powerless(argv: list[str]) -> int:
    """The run command by a user whom a folder's mode binds, even where root runs the tests: no capabilities."""
    version_3, itself = 0x20080522, 0
    head, none = struct.pack("Ii", version_3, itself), bytes(24)
    assert ctypes.CDLL(None).capset(head, none) == 0
    return main(argv)


def test_a_folder_that_cannot_be_written_is_said_and_stays(whole: Whole, tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o555)
    assert lived(powerless, [*whole.argv, "--out", str(shut)]) == 2
    assert list(shut.iterdir()) == []
    argv = [*whole.argv, "--out", str(tmp_path / "runs")]
    assert lived(main, argv, Death(window=whole.windows // 2)) == DIED
    [folder] = (tmp_path / "runs").glob("[!.]*")
    every = [folder, *folder.rglob("*")]
    for path in every:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert lived(powerless, [*argv, "--resume", folder.name]) == 3
    for path in every:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert lived(main, [*argv, "--resume", folder.name]) == 0
    assert same(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_end_ends_a_run_that_goes_on_later(
    number: signal.Signals, whole: Whole, tmp_path: Path, draw: random.Random, many: Callable[[int, int], int]
) -> None:
    tries = many(1, 20)
    for n in range(tries):
        out = tmp_path / str(n)
        argv = [*whole.argv, "--out", str(out)]
        process = forked(main, argv)
        until(process, draw.uniform(0.3, 0.9) * whole.seconds)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
        process.join()
        assert process.exitcode in (0, 130, -number)  # the last before the command stood ready for signals
        begun = [["--resume", folder.name] for folder in out.glob("[!.]*")] if out.exists() else []
        assert lived(main, [*argv, *(begun[0] if begun else [])]) == 0
        [folder] = out.glob("[!.]*")
        assert same(folder, whole)

"""A run of the graph beside the server: a process of its own, by the command that anybody would type."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import agent
from agent.config import make_config
from agent.loop.request import check_names
from agent.record.reading import read_record
from agent.record.schema import RunRecord
from agent.server.adaptation.questions import BY_INDEX, Material
from agent.server.adaptation.state import ended, runs_folder
from agent.server.adaptation.watching import lower
from agent.server.settings import KEY, ServeOptions
from cao.configuration import Machine
from cao.errors import InputError, UnavailableError
from cao.machine.processor import usable_processors
from cao.tasks.graders import build_grader

NICER = 10
REFUSED = 2
"""The exit status of a run that was refused."""
PATIENCE_S = 30.0
"""What a process is given to end in."""


class StoppedError(Exception):
    """The server ends, so the run was interrupted; it can be gone on with."""


@dataclass
class Runs:
    """Makes runs, one at a time.

    Attributes:
        options: of the server.
        file: a configuration file, for the runs.
    """

    options: ServeOptions
    file: Path | None
    _process: "subprocess.Popen[str] | None" = field(default=None, init=False, repr=False)
    _stopping: bool = field(default=False, init=False, repr=False)

    def check(self) -> str:
        """Refuse a configuration that no run could have; return how runs judge written answers.

        Raises:
            InputError: what is wrong with it.
            UnavailableError: the grader's package is not installed.
        """
        given = self.options.model_dump(include=set(Machine.model_fields), exclude_unset=True)
        config = make_config(self.file, {"task": "window.jsonl", **given}, [])
        check_names(config)
        build_grader(config.grader, [])
        return config.grader

    def pending(self, task: str, judged: Collection[str]) -> str | None:
        """Return the id of a run for a task that was begun, and of which it is not settled what became of it."""
        begun = sorted(path.parent.name for path in self._out(task).glob("*/config.json"))
        return next((run for run in begun if run not in judged), None)

    def ended(self, task: str) -> list[str]:
        """Return the ids of the runs for a task that came to their end."""
        return ended(self.options.out, task)

    def make(
        self, task: str, given: Material, judged: Collection[str] = (), aside: Callable[[str], None] = lambda run: None
    ) -> RunRecord:
        """Make a run, or end one that was interrupted; return its record, or that of one that nobody has looked at.

        Args:
            task: what its folder is called by.
            given: what a new run is given.
            judged: runs of which it is settled what became of them.
            aside: is told of a run that was interrupted and cannot be gone on with; a new one is made then.

        Raises:
            InputError: the run was refused.
            UnavailableError: it ended in another way; its log says how.
            StoppedError: the server ends.
        """
        out = self._out(task)
        out.mkdir(parents=True, exist_ok=True)
        judged, log = {*judged}, out.parent / f"{task}.log"
        with self._alone(out.parent / f"{task}.lock") as lock:
            while again := self.pending(task, judged):
                if (out / again / "run.json").exists():
                    return read_record(out / again)
                offline = ["--offline"] if self.options.offline else []
                status, told = self.command(["--resume", again, *offline, "--out", str(out), "--json"], log, lock)
                if status != REFUSED or self._stopping:
                    break
                judged.add(again)
                aside(again)
            else:
                status, told = self.command([*self._new(given), "--out", str(out), "--json"], log, lock)
        if status != 0:
            if self._stopping:
                raise StoppedError
            kind = InputError if status == REFUSED else UnavailableError
            raise kind(f"the run for {task} ended with exit status {status}; see {log}")
        return read_record(out / str(json.loads(told)["run_id"]))

    def _new(self, given: Material) -> list[str]:
        """Return the options of a new run."""
        words = ["--task", str(given.questions), *self._machine()]
        if given.ranked:  # which no grader judges
            words += ["--map", BY_INDEX, "--grader", "auto"]
        return [*words, *(["--prompts", str(given.prompts)] if given.prompts is not None else [])]

    def stop(self) -> None:
        """Interrupt the run under way; it can be gone on with."""
        self._stopping = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def folder(self, task: str, record: RunRecord) -> Path:
        """Return a run's folder."""
        return self._out(task) / record.run_id

    @contextmanager
    def _alone(self, path: Path) -> Iterator[int]:
        """Hold a lock that a run's process inherits: a killed server's may outlive it, and is waited for."""
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not self._stopping:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.5)
                    continue
                yield lock
                return
            raise StoppedError
        finally:
            os.close(lock)

    def _out(self, task: str) -> Path:
        return runs_folder(self.options.out, task)

    def command(self, words: list[str], log: Path, lock: int) -> tuple[int, str]:
        """Run the command to its end; return its exit status and what it wrote.

        Args:
            words: its options.
            log: takes what it writes to standard error.
            lock: descriptor that it inherits.
        """
        path = os.pathsep.join(filter(None, (str(Path(agent.__path__[0]).parent), os.environ.get("PYTHONPATH"))))
        with log.open("a") as errors:
            command = [sys.executable, "-m", "agent.run", *words]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                pass_fds=(lock,),
                env={name: value for name, value in os.environ.items() if name != KEY} | {"PYTHONPATH": path},
            )
            self._process = process
            if self._stopping:
                process.terminate()
            lower(process.pid, NICER)  # answers go first
            told, _ = process.communicate()
        return process.returncode, told

    def _machine(self) -> list[str]:
        """Return the options by which a run works with the model that is served."""
        given = self.options.model_dump(mode="json", include=set(Machine.model_fields), exclude_unset=True)
        words = ["--config", str(self.file)] if self.file else []
        profile = given.pop("profile", None)
        if isinstance(profile, Mapping):
            stated = {f"profile.{key}": value for key, value in profile.items() if value is not None}
        else:
            stated = {}
        offline = given.pop("offline", False)
        stated |= {key: value for key, value in given.items() if value is not None}
        stated["seed"], stated["threads"] = self.options.seed, max(1, usable_processors() // 2)
        stated |= {"start_adapter": self.options.start_adapter} if self.options.start_adapter else {}
        for key, value in stated.items():
            words += ["--set", f"{key}={json.dumps(value, ensure_ascii=False)}"]  # TOML takes no surrogates
        return [*words, *(["--offline"] if offline else [])]

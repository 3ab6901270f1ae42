"""A run of the graph beside the server: a process of its own, by the command that anybody would type."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import agent
from agent.config import make_config
from agent.loop.request import check_names
from agent.loop.run_folder import locked
from agent.record.reading import read_record
from agent.record.schema import RunRecord
from agent.server.adaptation.watching import lower
from agent.server.settings import ServeOptions
from cao.configuration import Machine
from cao.errors import InputError, UnavailableError
from cao.machine.processor import usable_processors

NICER = 10
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

    def check(self) -> None:
        """Refuse a configuration that no run could have.

        Raises:
            InputError: what is wrong with it.
        """
        given = self.options.model_dump(include=set(Machine.model_fields), exclude_unset=True)
        check_names(make_config(self.file, {"task": "window.jsonl", **given}, []))

    def unfinished(self, task: str) -> str | None:
        """Return the id of a run for a task that was begun and has not ended."""
        begun = sorted(self._out(task).glob("*/config.json"))
        return next((path.parent.name for path in begun if not (path.parent / "run.json").exists()), None)

    def make(self, task: str, questions: Path, prompts: Path | None) -> RunRecord:
        """Make a run, or end one that was interrupted; return its record.

        Args:
            task: what its folder is called by.
            questions: the task's file.
            prompts: for the tools, None for a share of the questions.

        Raises:
            InputError: the run was refused.
            UnavailableError: it ended in another way; its log says how.
            StoppedError: the server ends.
        """
        out, again = self._out(task), self.unfinished(task)
        out.mkdir(parents=True, exist_ok=True)
        if again and self._ended(out / again):
            return read_record(out / again)
        offline = ["--offline"] if self.options.offline else []
        words = ["--resume", again, *offline] if again else ["--task", str(questions), *self._machine()]
        if prompts is not None and not again:
            words += ["--prompts", str(prompts)]
        log = out.parent / f"{task}.log"
        status, told = self._command([*words, "--out", str(out), "--json"], log)
        if status != 0:
            if self._stopping:
                raise StoppedError
            kind = InputError if status == 2 else UnavailableError
            raise kind(f"the run for {task} ended with exit status {status}; see {log}")
        return read_record(out / str(json.loads(told)["run_id"]))

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

    def _ended(self, run: Path) -> bool:
        """Return whether a run has ended, once no process is at work on it: a killed server's may have outlived it."""
        while not self._stopping:
            try:
                with locked(run):
                    return (run / "run.json").exists()
            except InputError:
                time.sleep(0.5)
        raise StoppedError

    def _out(self, task: str) -> Path:
        return Path(os.path.abspath(self.options.out)) / "runs" / task

    def _command(self, words: list[str], log: Path) -> tuple[int, str]:
        path = os.pathsep.join(filter(None, (str(Path(agent.__path__[0]).parent), os.environ.get("PYTHONPATH"))))
        with log.open("a") as errors:
            command = [sys.executable, "-m", "agent.run", *words]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
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
            words += ["--set", f"{key}={json.dumps(value)}"]
        return [*words, *(["--offline"] if offline else [])]

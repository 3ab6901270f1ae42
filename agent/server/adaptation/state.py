"""What a server goes on from after its end: what was adopted on alarms, and what feedback said of it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from agent.loop.run_folder import locked
from agent.server.adaptation.evidence import Evidence
from cao.command_line import make_folder
from cao.errors import InputError
from cao.files import opened, sealed, write_json
from cao.types import Record

STATE_FILE = "state.json"


class Adoption(Record):
    """A model that a run adopted for a task.

    Attributes:
        run: its folder, relative to the server's.
        run_id: its name.
        status: whether it is served.
        evidence: what feedback says of it.
    """

    run: str
    run_id: str
    status: Literal["served", "rolled_back"] = "served"
    evidence: Evidence

    @property
    def words(self) -> str:
        """What feedback said of it."""
        one = self.evidence
        return f"run {self.run_id}: {one.right} of {one.asked} right, the deployed model had {one.level:.0%}"

    def told(self) -> dict[str, JsonValue]:
        """Return it as the server's health has it."""
        return {"run": self.run_id, "status": self.status, "right": self.evidence.right, "asked": self.evidence.asked}

    def folder(self, out: Path) -> Path:
        """Return the run's folder in a server's.

        Raises:
            InputError: it leads out of it.
        """
        folder = out.absolute() / self.run
        if not folder.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{folder}: is not in the server's folder")
        return folder


class ServerState(BaseModel):
    """What ``state.json`` holds.

    Attributes:
        version: of the file.
        adopted: task → the model that was adopted last.
        tried: task → questions with answers that the last run for it had.
        judged: task → its runs of which it is settled what became of them.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    version: Literal[1] = 1
    adopted: dict[str, Adoption] = {}
    tried: dict[str, int] = {}
    judged: dict[str, list[str]] = {}

    def settle(self, task: str, runs: Iterable[str]) -> None:
        """Note runs of which it is settled what became of them."""
        self.judged[task] = sorted({*self.judged.get(task, ()), *runs})

    def write(self, folder: Path) -> None:
        """Write it in one step, with its hash."""
        write_json(folder / STATE_FILE, sealed(self.model_dump(mode="json")))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a server's folder and hold it, so that no second server works in it.

    Raises:
        InputError: it cannot be made, or another server holds it.
    """
    make_folder(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except InputError:
            raise InputError(f"{folder}: another server is at work in it; stop it, or give another --out") from None
        yield


def read_server_state(folder: Path) -> ServerState:
    """Return the state to go on from, an empty one where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return ServerState()
    try:
        return ServerState.model_validate_json(opened(path.read_bytes()))
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; give another --out") from None


def runs_folder(folder: Path, task: str) -> Path:
    """Return where the runs for a task lie in a server's folder."""
    return Path(os.path.abspath(folder)) / "runs" / task


def ended(folder: Path, task: str) -> list[str]:
    """Return the ids of the runs for a task that came to their end, in a server's folder."""
    return sorted(path.parent.name for path in runs_folder(folder, task).glob("*/run.json"))

"""The ``[engine]`` table of a configuration file: which engine, and where."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cao.configuration import first_error, read_tables
from cao.errors import InputError
from cao.types import Record


class EngineSettings(Record):
    """Which engine runs the jobs, and what one of its workers takes.

    Attributes:
        kind: ``local`` for processes on this machine, ``ray`` for Ray.
        address: of a Ray cluster that this machine belongs to, HOST:PORT; None starts Ray on this machine.
        cpus: cores, and threads, of one Ray worker; None shares this machine's out, and is 1 at an address.
        gpus: accelerators of one Ray worker.
    """

    kind: Literal["local", "ray"] = "local"
    address: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")] | None = None
    cpus: Annotated[int, Field(ge=1, le=1024)] | None = None
    gpus: Annotated[float, Field(ge=0, le=64)] = 0


def read_engine(file: Path | None) -> EngineSettings:
    """Return the ``[engine]`` table of a configuration file, the defaults where there is no file or no such table.

    Raises:
        InputError: the file cannot be read, the table has an unknown key, or a value is impossible.
    """
    table = read_tables(file).get("engine", {}) if file else {}
    try:
        settings = EngineSettings.model_validate(table)
    except ValidationError as error:
        where, what = first_error(error)
        shape = "; write it as HOST:PORT" if where == "address" else ""
        raise InputError(f"{file}: engine.{where}: {what}{shape}") from None
    remote = [name for name in ("address", "cpus", "gpus") if getattr(settings, name)]
    if settings.kind == "local" and remote:
        raise InputError(f'{file}: engine.{remote[0]} is for kind = "ray"')
    return settings

"""Settings: pydantic models made from a TOML file, options and ``--set`` texts, and the words for what cannot be used.

One file serves every command. At its top are a run's keys, of which every command takes those of ``Machine``; a command
reads its own table besides, and tables of others are passed over.
"""

import argparse
import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from cao.errors import InputError
from cao.options import FLAGS, PRETRAINED, Option, given
from cao.profile_settings import ProfileSettings
from cao.types import DtypeChoice, Record

Settings = TypeVar("Settings", bound=BaseModel)

SHIPPED = Path(__file__).parents[1] / "pretrained"
"""The folder of trained parts that is used where the setting ``pretrained`` names no other."""

TABLES = ("consolidate", "drift", "engine", "generate", "propose", "score", "serve", "tables", "train_policy", "watch")
"""Tables of a configuration file that belong to a command, or to the engine that several commands run jobs on."""

ModelName = Annotated[
    str,
    Field(min_length=1, max_length=4096, description="a known model, its folder or .gguf file, or a hub id"),
    Option("NAME|DIR|HUB_ID"),
]
ModelPath = Annotated[
    str | None, Field(description="a folder that takes the place of the profile's source"), Option("DIR")
]
Profile = Annotated[
    ProfileSettings, Field(description="what is set over the model's profile: answer_style, lora_rank, chat, …")
]
Pretrained = Annotated[str | None, Field(description=PRETRAINED), Option("DIR", default="what ships")]

Count = Annotated[int, Field(ge=1, lt=2**31)]
CountOrNone = Annotated[int, Field(ge=0, lt=2**31)]
Amount = Annotated[float, Field(ge=0)]


def _known_device(name: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise ValueError(f"unknown device {name!r}; known: cpu, cuda, cuda:N, mps")
    return name


Device = Annotated[str, AfterValidator(_known_device), Field(description="cpu, cuda, cuda:N or mps"), Option("D")]
Dtype = Annotated[
    DtypeChoice, Field(description="what the language model computes in; auto is what is faster here, measured")
]
FileKeys = Annotated[
    str,
    Field(max_length=4096, description="keys of your own file, where their names do not say what they hold"),
    Option("question=K,choices=K,answer=K", default="guessed, and shown"),
]
FileGrader = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        description="how free-text answers of your own file are judged: auto (number, or first line), exact, number,"
        " f1, rouge, label, or MODULE:FUNCTION",
    ),
    Option("NAME"),
]
ByChat = Annotated[
    Literal["auto", "on", "off"],
    Field(description="whether written answers are asked for by the model's chat template; auto: for your own file"),
]
Offline = Annotated[bool, Field(description=FLAGS["--offline"])]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1, description="of every random choice"), Option("N")]
RunsFolder = Annotated[str, Field(description="folder of runs"), Option("DIR")]
Workers = Annotated[int, Field(ge=1, description="processes that share the work"), Option("N")]
Variant = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,80}$",
        description="which trained generator: auto, one that never saw the task if there is one, or one of the index's:"
        " full, fold-N, paper, or without-TASK of other presets",
    ),
    Option("V"),
]
Registry = Annotated[
    Path | None,
    Field(description="of one's own references"),
    Option("DIR", others=("--folder",), default="the user's data"),
]


class Machine(Record):
    """Which model a command works with, on what and in what it computes."""

    model: ModelName = "smollm2-135m"
    model_path: ModelPath = None
    profile: Profile = ProfileSettings()
    device: Device = "cpu"
    dtype: Dtype = "auto"
    offline: Offline = False


SHARED = (*Machine.model_fields, "pretrained")
"""Keys at a file's top that every command takes which has them."""


_WORDS = {"extra_forbidden": "unknown key", "string_unicode": "it is not valid UTF-8; where it is a file, rename it"}
"""Kind of mistake → what is said of it, where pydantic's words do not help."""


def first_error(error: ValidationError) -> tuple[str, str]:
    """Return where the first mistake is, its keys joined by dots, and what is wrong there."""
    first = error.errors(include_url=False, include_input=False)[0]
    what = _WORDS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return ".".join(str(part) for part in first["loc"]), what


def explain(error: ValidationError) -> str:
    """Return the first mistake in words: ``key: what is wrong``."""
    return ": ".join(filter(None, first_error(error)))


def validated(model: type[Settings], values: Mapping[str, object], where: str) -> Settings:
    """Return settings made from values.

    Args:
        model: the settings' type.
        values: by key.
        where: what the values were read from, for the message.

    Raises:
        InputError: an unknown key or an impossible value.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}{_meant(error, model)}") from None


def _meant(error: ValidationError, model: type[BaseModel]) -> str:
    """Return which key was probably meant by an unknown one; empty where the first mistake is another."""
    first = error.errors(include_url=False, include_input=False)[0]
    known = first["type"] == "extra_forbidden" and len(first["loc"]) == 1
    close = difflib.get_close_matches(str(first["loc"][0]), [*model.model_fields, *TABLES], 1) if known else []
    return f"; did you mean {close[0]}?" if close else ""


def parse_assignment(text: str) -> dict[str, object]:
    """Return the nested mapping that one ``--set key=value`` states; the value is TOML, or else a string.

    Raises:
        InputError: there is no key or no equals sign, or a list, a table or a quoted text is broken.
    """
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {text!r}: write it as key=value")
    try:
        parsed: object = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        if value.strip().startswith(("[", "{", '"')):
            raise InputError(f"--set {text!r}: begins like a list, a table or a text; not TOML ({error})") from None
        parsed = value
    for part in reversed(parts[1:]):
        parsed = {part: parsed}
    return {parts[0]: parsed}


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Return ``base`` with ``over`` laid on top, nested tables key by key."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def assigned(assignments: list[str] | tuple[str, ...]) -> dict[str, object]:
    """Return what several ``--set`` texts state together, the last one winning.

    Raises:
        InputError: one of them is no assignment.
    """
    values: dict[str, object] = {}
    for text in assignments:
        values = merge(values, parse_assignment(text))
    return values


def read_config_file(path: Path) -> dict[str, object]:
    """Return the content of a TOML configuration file.

    Raises:
        InputError: it is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # TOML's and Unicode's errors are ValueErrors
        raise InputError(f"{path}: not TOML ({error})") from None


def read_tables(path: Path, top: Collection[str] | None = None) -> dict[str, object]:
    """Return a configuration file, in which every table must be known.

    Args:
        path: the file.
        top: the keys that may stand at its top; None where they are not judged.

    Raises:
        InputError: it is missing, is not TOML, or holds what belongs to no command.
    """
    content = read_config_file(path)
    for name in content:
        if name in TABLES:
            table_of(content, name, path)
        if name not in TABLES and top is not None and name not in top:
            raise InputError(f"{path}: {name}: unknown key")
    return content


def table_of(content: Mapping[str, object], name: str, path: Path) -> dict[str, object]:
    """Return one table of a configuration file, empty where the file has none of that name.

    Raises:
        InputError: something else has that name.
    """
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{path}: {name}: write it as a table, [{name}]")
    return table


def read_settings(
    model: type[Settings],
    arguments: argparse.Namespace,
    table: str,
    top: Collection[str] | None = None,
    *,
    settable: bool = True,
) -> Settings:
    """Return a command's settings: defaults, the file of ``--config``, options, then ``--set`` assignments.

    Args:
        model: the settings' type.
        arguments: the command line, understood.
        table: the command's own table in a file.
        top: as in ``read_tables``.
        settable: whether the assignments are among these settings; else they are another's.

    Raises:
        InputError: an unknown key or an impossible value; the message names the option where one was given.
    """
    file: Path | None = getattr(arguments, "config", None)
    content = read_tables(file, top) if file else {}
    values = {key: content[key] for key in SHARED if key in content and key in model.model_fields}
    own = table_of(content, table, file) if file else {}
    options = given(arguments, model)
    assignments = assigned(arguments.assignments) if settable else {}
    values = merge(merge(merge(values, own), options), assignments)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        where, what = first_error(error)
        key = where.partition(".")[0]
        what += f"; known: {', '.join(model.model_fields)}" if key not in model.model_fields else ""
        if key in assignments:
            raise InputError(f"--set {where}: {what}") from None
        if key in options:
            raise InputError(f"--{key.replace('_', '-')} {options[key]}: {what}") from None
        raise InputError(f"{file or 'configuration'}: {where}: {what}") from None

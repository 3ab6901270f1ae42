"""Options of a command, made from the fields of its settings: name, type, help and default are declared there, once.

Only the standard library is imported here: ``--help`` and a mistyped option are answered at once, and the doctor speaks
where nothing is installed.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

FLAGS = {
    "--offline": "never use the network",
    "--json": "print JSON on standard output and nothing else there",
    "--debug": "show tracebacks of expected errors",
}
"""Switches that commands share."""

PRETRAINED = "folder of trained parts"
CONFIG = "TOML file: keys of a run, and a table for each command that has one; the command line wins over it"
SET = "any of these settings by its name, with _ for -"


@dataclass(frozen=True)
class Option:
    """How a field looks on the command line where its name and type do not say it.

    Attributes:
        metavar: what stands for the value in the help.
        others: further spellings.
        commas: a collection is one value, its members separated by commas; else it is several values.
        repeats: a name may come again, where it is separated by commas.
        positional: it has no name.
        default: words for the default, where the value does not say it.
    """

    metavar: str | None = None
    others: tuple[str, ...] = ()
    commas: bool = False
    repeats: bool = False
    positional: bool = False
    default: str | None = None


def names_list(text: str) -> tuple[str, ...]:
    """Return the names that an option gives, separated by commas.

    Raises:
        argparse.ArgumentTypeError: none, or one twice.
    """
    names = names_again(text)
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError("give names separated by commas, each once")
    return names


def names_again(text: str) -> tuple[str, ...]:
    """Return the names that an option gives, separated by commas; one may come again.

    Raises:
        argparse.ArgumentTypeError: none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("give names separated by commas")
    return names


def plain(text: str) -> str:
    """Return a docstring's text for a terminal: without the marks of its markup."""
    return re.sub(r"``([^`]*)``", r"\1", text)


def program(module: str) -> str:
    """Return what a person types to start a command: the console script's verb, or the module."""
    verb = module.rpartition(".")[2].replace("_", "-")
    return f"cao {verb}" if Path(sys.argv[0]).stem == "cao" else f"python -m {module}"


def command_parser(module: str, summary: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a command's parser, without options.

    Args:
        module: the command's module.
        summary: its docstring, of which the first line is shown, without the command that it may begin with.
        epilog: what is shown below the options.
    """
    first = plain(re.sub(r"^``[^`]*``: ", "", (summary or "").split("\n")[0]))
    return argparse.ArgumentParser(prog=program(module), description=first[:1].upper() + first[1:], epilog=epilog)


def add_common(parser: argparse.ArgumentParser, *flags: str, config: bool = False, settable: str | None = None) -> None:
    """Add what is no setting of a command: ``--json`` and ``--debug``, and what it has of the other shared options.

    Args:
        parser: the command's parser.
        flags: other switches, by their names in ``FLAGS``.
        config: whether it reads a configuration file.
        settable: what can be set with ``--set``; None where nothing can.
    """
    if config:
        parser.add_argument("--config", metavar="FILE.toml", type=Path, help=CONFIG)
    if settable is not None:
        add_settable(parser, settable)
    for name in (*flags, "--json", "--debug"):
        parser.add_argument(name, action="store_true", help=FLAGS[name])


def add_settable(parser: argparse.ArgumentParser, settable: str, *, required: bool = False) -> None:
    """Add ``--set``.

    Args:
        parser: the command's parser.
        settable: what can be set with it.
        required: whether it must be given.
    """
    parser.add_argument(
        "--set",
        metavar="key=value",
        action="append",
        default=[],
        dest="assignments",
        required=required,
        help=settable,
    )


def add_options(
    parser: argparse.ArgumentParser, settings: "type[BaseModel]", names: Iterable[str] = (), *, required: bool = True
) -> None:
    """Add an option for each field of a command's settings; what is not given stays None.

    Args:
        parser: the command's parser.
        settings: a pydantic model.
        names: the fields, all of them when empty.
        required: whether a field without a default must be given here; else a file may state it.
    """
    for name in names or settings.model_fields:
        if not hasattr(settings.model_fields[name].annotation, "model_fields"):  # a table is set key by key
            _add(parser, name, settings.model_fields[name], required)


def _add(parser: argparse.ArgumentParser, name: str, field: "FieldInfo", required: bool) -> None:
    look = next((extra for extra in field.metadata if isinstance(extra, Option)), Option())
    kind, many = _kind(field.annotation)
    words = plain(field.description or "") + _default(field, look)
    how: dict[str, Any] = {"help": words.replace("%", "%%"), "default": None}
    if kind is bool:
        how["action"] = "store_true"
    else:
        how |= {"metavar": look.metavar} if look.metavar or not isinstance(kind, tuple) else {}
        listed = names_again if look.repeats else names_list
        how |= {"choices": kind} if isinstance(kind, tuple) else {"type": listed if look.commas else kind}
    if many and not look.commas:
        how |= {"nargs": "*"} if look.positional else {"nargs": "+", "action": "extend"}
    if look.positional:
        parser.add_argument(name, **how)
        return
    how["required"] = required and field.is_required()
    parser.add_argument(f"--{name.replace('_', '-')}", *look.others, dest=name, **how)


def _kind(annotation: object) -> tuple[object, bool]:
    """Return what one value is (a type, or a tuple of choices), and whether there are several."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return _kind(next(each for each in inner if each is not type(None)))
    if origin is Literal:
        return inner, False
    if origin in (tuple, list):
        return _kind(inner[0])[0], True
    return (annotation if annotation in (bool, int, float, Path) else str), False


def _default(field: "FieldInfo", look: Option) -> str:
    """Return the default in words, empty where there is none to speak of."""
    if look.default is not None:
        return f" (default: {look.default})" if look.default else ""
    value = None if field.is_required() else field.get_default(call_default_factory=False)
    if value is None or isinstance(value, bool) or value in ((), []):
        return ""
    return f" (default {','.join(map(str, value)) if isinstance(value, tuple | list) else value})"


def given(arguments: argparse.Namespace, settings: "type[BaseModel]") -> dict[str, object]:
    """Return what the command line gave of a command's settings."""
    stated = {name: getattr(arguments, name, None) for name in settings.model_fields}
    return {name: value for name, value in stated.items() if value not in (None, [])}

"""Settings: pydantic models made from a TOML file and ``--set`` texts, and the words for what cannot be used."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cao.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def first_error(error: ValidationError) -> tuple[str, str]:
    """Return where the first mistake is, its keys joined by dots, and what is wrong there."""
    first = error.errors(include_url=False, include_input=False)[0]
    what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return ".".join(str(part) for part in first["loc"]), what


def explain(error: ValidationError) -> str:
    """Return the first mistake in words: ``key: what is wrong``."""
    return ": ".join(filter(None, first_error(error)))


def validated(model: type[Model], values: dict[str, Any], where: str) -> Model:
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
        raise InputError(f"{where}: {explain(error)}") from None


def parse_assignment(text: str) -> dict[str, Any]:
    """Return the nested mapping that one ``--set key=value`` states; the value is TOML, or else a string.

    Raises:
        InputError: there is no key or no equals sign.
    """
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {text!r}: write it as key=value")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # also a number of thousands of digits
        parsed = value
    for part in reversed(parts):
        parsed = {part: parsed}
    return dict(parsed)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on top, nested tables key by key."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if nested else value
    return result


def assigned(assignments: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Return what several ``--set`` texts state together, the last one winning.

    Raises:
        InputError: one of them is no assignment.
    """
    values: dict[str, Any] = {}
    for text in assignments:
        values = merge(values, parse_assignment(text))
    return values


def read_config_file(path: Path) -> dict[str, Any]:
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

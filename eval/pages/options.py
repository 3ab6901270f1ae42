"""``python -m eval.pages.options``: write the pages of all commands' options and of a configuration file's keys.

Both are made from what reads them: the commands' parsers, and the settings' models.
"""

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from agent.config import RunConfig
from agent.server.settings import ServeOptions
from agent.stages.options import DriftOptions, GenerateOptions
from agent.stream.options import WatchOptions
from agent.train.engine.settings import EngineSettings
from agent.train.generator.options import ConsolidateOptions
from agent.train.policy.options import TrainPolicyOptions
from cao.command_line import run_command
from cao.configuration import SHARED
from cao.console import VERBS
from cao.files import write_atomic
from cao.options import plain
from cao.policy_settings import PolicySettings
from cao.profile_settings import ProfileSettings
from eval.options import ScoreOptions, TablesOptions
from eval.pages.markdown import table
from policies.propose import ProposeOptions

ROOT = Path(__file__).resolve().parents[2]
OPTIONS_PAGE, SETTINGS_PAGE = "options.md", "settings.md"

TABLES: dict[str, type[BaseModel]] = {
    "profile": ProfileSettings,
    "policy_settings": PolicySettings,
    "engine": EngineSettings,
    "drift": DriftOptions,
    "watch": WatchOptions,
    "serve": ServeOptions,
    "generate": GenerateOptions,
    "consolidate": ConsolidateOptions,
    "train_policy": TrainPolicyOptions,
    "propose": ProposeOptions,
    "score": ScoreOptions,
    "tables": TablesOptions,
}
"""Table of a configuration file → the model that reads it."""

OPTIONS_HEAD = """# Options

Written by `python -m eval.pages.options` from the commands' own parsers. What the commands are for, and their exit
statuses: [commands](commands.md). `cao VERB` is the same as the `python -m` beside it.
"""
SETTINGS_HEAD = """# Keys of a configuration file

Written by `python -m eval.pages.options` from the models that read the file. `--config FILE.toml` gives one to every
command; the command line wins over it, and `--set key=value` takes the same names. A key without a default stays unset
where none is given. How the file is shared: [commands](commands.md).
"""
JSON_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "none"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def options_page() -> str:
    """Return the page of the commands' options."""
    made = [OPTIONS_HEAD]
    for verb, (module, _) in VERBS.items():
        parser: argparse.ArgumentParser = importlib.import_module(module).parser()
        shown = module.removesuffix(".command")
        made.append(f"## cao {verb}\n\n`python -m {shown}`. {_sentence(parser.description)}\n")
        made += _options(parser)
        for name, below in _verbs(parser).items():
            made += [f"### cao {verb} {name}\n\n{_sentence(below.description)}\n", *_options(below)]
    return "\n".join(made)


def settings_page() -> str:
    """Return the page of a configuration file's keys."""
    nested = [name for name in TABLES if name in RunConfig.model_fields]
    top = [name for name in RunConfig.model_fields if name not in nested]
    made = [SETTINGS_HEAD, "## At the top: a run\n", _keys(RunConfig, top)]
    for name, model in TABLES.items():
        own = [key for key in model.model_fields if name in nested or key not in SHARED]
        shared = [f"`{key}`" for key in model.model_fields if key not in own]
        made += [f"## [{name}]\n", _keys(model, own)]
        made += [f"Keys at the top that count here too: {', '.join(shared)}.\n"] if shared else []
    return "\n".join(made)


def _sentence(text: str | None) -> str:
    words = " ".join((text or "").split())
    return _cell(words[:1].upper() + words[1:].rstrip(".") + ".") if words else ""


def _cell(text: str) -> str:
    """Return a text as a table's cell holds it."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers below one."""
    below = (each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return next(below, {})


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Return the table of a parser's options, none where there is nothing to give."""
    kinds = (argparse._HelpAction, argparse._SubParsersAction)
    actions = [each for each in parser._actions if not isinstance(each, kinds)]
    rows = [(f"`{_cell(_spelt(each))}`", _cell(_meaning(each))) for each in actions]
    return [table(("option", "meaning"), rows)] if rows else []


def _spelt(action: argparse.Action) -> str:
    """Return an option as it is typed."""
    name = ", ".join(action.option_strings)
    if action.nargs == 0:
        return name
    choices = "|".join(map(str, action.choices or ()))
    metavar = action.metavar if isinstance(action.metavar, str) else choices or action.dest.upper()
    value = f"{metavar} …" if action.nargs in ("+", "*") else metavar
    value = f"[{value}]" if not name and action.nargs in ("?", "*") else value
    return f"{name} {value}".strip()


def _meaning(action: argparse.Action) -> str:
    words = plain(action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    return f"{words} (required)" if action.required and action.option_strings else words


def _keys(model: type[BaseModel], names: list[str]) -> str:
    """Return the table of a model's keys.

    Args:
        model: what reads them.
        names: those to show.
    """
    schema = model.model_json_schema()
    told = dict(_attributes(model))
    rows = []
    for name in names:
        field, shape = model.model_fields[name], schema["properties"][name]
        default = shape.get("default")
        shown = "required" if field.is_required() else "" if default is None else f"`{_toml(default)}`"
        meaning = plain(field.description or told.get(name, "")).removesuffix(".")
        rows.append((f"`{name}`", _cell(_type(shape, schema.get("$defs", {}))), _cell(shown), _cell(meaning)))
    return table(("key", "value", "default", "meaning"), rows)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type(shape: Mapping[str, object], named: Mapping[str, Mapping[str, object]]) -> str:
    """Return what a value may be, in words.

    Args:
        shape: its JSON Schema.
        named: schemas that it refers to.
    """
    if isinstance(reference := shape.get("$ref"), str):
        return _type(named[reference.rpartition("/")[2]], named)
    several = shape.get("anyOf")
    if isinstance(several, list):
        return " or ".join(_type(each, named) for each in several if each.get("type") != "null")
    if isinstance(choices := shape.get("enum"), list):
        return ", ".join(map(_toml, choices))
    if "const" in shape:
        return _toml(shape["const"])
    if isinstance(items := shape.get("items"), dict):
        return f"list of {_type(items, named)}"
    if shape.get("type") == "object":
        return "table"
    bounds = [f"{sign} {shape[key]:,}" for key, sign in BOUNDS.items() if isinstance(shape.get(key), int | float)]
    return " ".join([JSON_TYPES[str(shape["type"])], ", ".join(bounds)]).strip()


def _attributes(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield each attribute that a model's docstring, or that of one it extends, describes, with its description."""
    for each in reversed(model.__mro__):
        _, _, section = (inspect.cleandoc(each.__doc__ or "")).partition("Attributes:\n")
        section = re.split(r"\n\n|\n(?=\S)", section)[0]
        for names, text in re.findall(r"^ {4}([\w, ]+): (.+(?:\n {8}.+)*)", section, flags=re.M):
            yield from ((name, " ".join(text.split())) for name in names.split(", "))


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    p = argparse.ArgumentParser(prog="python -m eval.pages.options", description=(__doc__ or "").split("``: ")[-1])
    p.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "docs/reference")
    arguments = p.parse_args(argv)

    def body() -> int:
        write_atomic(arguments.out / OPTIONS_PAGE, options_page())
        write_atomic(arguments.out / SETTINGS_PAGE, settings_page())
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())

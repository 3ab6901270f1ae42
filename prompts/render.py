"""Fill the prompt templates; whatever is filled in is data and stays data.

Task contexts, questions and the raw output of earlier attempts come from files and from models, so any of them may
hold instructions, closing marks or a chat template's control tokens. Every value that a template prints passes
through :func:`as_data`; values are never read as templates.
"""

import unicodedata
from functools import cache
from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

VALUE_LIMIT = 2_000
"""Characters of a printed value that a template does not cut shorter itself."""

_HARMLESS = str.maketrans({"<": "‹", ">": "›", "`": "'"})


def as_data(text: str, limit: int = VALUE_LIMIT) -> str:
    """Return ``text`` as one harmless line.

    Angle brackets and backticks are replaced, so that no mark of our templates can be closed and no control token
    such as ``<|im_start|>`` survives; control and invisible characters go; runs of space become one.

    Args:
        text: anything, lone surrogates and megabytes included.
        limit: characters to keep; a longer text ends in ``…``.
    """
    head = text[: 4 * limit + 16].encode("utf-8", "replace").decode()  # do not walk through a megabyte to keep a line
    visible = "".join(" " if unicodedata.category(char).startswith(("C", "Z")) else char for char in head)
    line = " ".join(visible.translate(_HARMLESS).split())
    return line if len(line) <= limit and len(head) == len(text) else line[: limit - 1].rstrip() + "…"


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=lambda value: as_data(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # plain text, not HTML; as_data is the escape
    )
    environment.filters["data"] = as_data
    return environment


def render(name: str, **values: object) -> str:
    """Return the template ``<name>.txt`` filled with ``values``.

    Args:
        name: a file of this folder, without its ending.
        values: plain data; every printed text is cut and made harmless.

    Raises:
        jinja2.UndefinedError: the template names a value that is missing.
    """
    return _environment().get_template(f"{name}.txt").render(**values).strip() + "\n"

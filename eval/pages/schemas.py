"""``python -m eval.pages.schemas``: write the JSON Schemas of the files that others read.

A schema's version stands in its name: it is raised where an older reader would misread a file or refuse it.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from agent.handover.settings import VERSION, Handed
from agent.record.answering import Answering
from agent.record.schema import SCHEMA_VERSION, Adopted, Run, RunRecord
from cao.command_line import run_command
from cao.drift import DriftReport
from cao.files import write_atomic
from cao.strategy import strategy_schema

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("docs/reference/schemas")

Made = tuple[str, str, Callable[[], Mapping[str, object]]]
SCHEMAS: dict[str, Made] = {
    f"run-{SCHEMA_VERSION}": (
        "run.json",
        inspect.getdoc(Run) or "",
        lambda: RunRecord.model_json_schema(mode="serialization"),
    ),
    "strategy-1": (
        "strategy.json",
        f"{inspect.getdoc(Adopted)}\n\nNull where nothing was adopted.",
        lambda: TypeAdapter(Adopted | None).json_schema(mode="serialization"),
    ),
    "answering-1": (
        "answering.json",
        inspect.getdoc(Answering) or "",
        lambda: Answering.model_json_schema(mode="serialization"),
    ),
    f"cao-{VERSION}": (
        "cao.json",
        inspect.getdoc(Handed) or "",
        lambda: Handed.model_json_schema(mode="serialization"),
    ),
    "drift-1": (
        "a line of agent.drift --json",
        inspect.getdoc(DriftReport) or "",
        lambda: DriftReport.model_json_schema(mode="serialization"),
    ),
    "proposal-1": ("a line of a strategy file", "What a policy proposes.", lambda: {**strategy_schema()}),
}
"""Name with version → what it is of, what is said of it, and what makes it."""


def file_name(name: str) -> str:
    """Return the file of a schema."""
    return f"{name}.schema.json"


def text(name: str) -> str:
    """Return a schema as it lies in ``FOLDER``.

    Args:
        name: with its version, of ``SCHEMAS``.
    """
    title, description, make = SCHEMAS[name]
    kind, _, version = name.rpartition("-")
    head = {"$schema": GenerateJsonSchema.schema_dialect, "$id": f"urn:cao-llm:{kind}:{version}"}
    whole = {**head, **make(), "title": title, "description": description}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    p = argparse.ArgumentParser(prog="python -m eval.pages.schemas", description=(__doc__ or "").split("``: ")[-1])
    p.add_argument("--out", metavar="DIR", type=Path, default=ROOT / FOLDER)
    arguments = p.parse_args(argv)

    def body() -> int:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name in SCHEMAS:
            write_atomic(arguments.out / file_name(name), text(name))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())

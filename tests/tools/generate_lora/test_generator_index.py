"""The index of trained generators: which one serves a task, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from cao.errors import InputError
from tests.tools.generate_lora.tiny_generators import BASE, untrained
from tools import pretrained
from tools.generate_lora import find_generator
from tools.generate_lora.generator import load_generator


def listed(folder: Path, **changes: Any) -> Path:
    """An index with a full variant and one without piqa, both really there."""
    variants = []
    for k, (name, leaves_out) in enumerate((("full", []), ("without-piqa", ["piqa"]))):
        generator = untrained()
        generator.made = {"number": k}
        sha256 = generator.save(folder / f"{name}.safetensors")
        entry = {"path": f"{name}.safetensors", "sha256": sha256, **changes.get("generator", {})}
        variants.append({"name": name, "sources": ["piqa", "boolq"], "leaves_out": leaves_out, "generator": entry})
    index = {"format": 1, "models": {BASE: {"name": "tiny", "variants": variants}}}
    path = folder / "index.json"
    path.write_text(json.dumps({**index, **changes.get("index", {})}))
    return path


def test_the_variant_that_never_saw_the_task_is_chosen(tmp_path: Path) -> None:
    index = listed(tmp_path)

    def number(task: str | None, variant: str = "auto") -> int:
        generator = find_generator(BASE, task, variant, index)
        assert generator is not None
        return int(generator.made["number"])

    assert [number("piqa"), number("boolq"), number("medqa"), number(None)] == [1, 0, 0, 0]
    assert [number("piqa", "full"), number(None, "without-piqa")] == [0, 1]
    with pytest.raises(InputError, match=r"no variant 'without-boolq' .* tiny; known: full, without-piqa"):
        find_generator(BASE, "boolq", "without-boolq", index)
    assert find_generator("d" * 64, None, "auto", index) is None
    assert find_generator(BASE, None, "auto", tmp_path / "absent.json") is None


@pytest.mark.parametrize("path", ["../generator.safetensors", "/etc/passwd", "folder/../../x", "link/x", "x\0y"])
def test_a_path_out_of_the_indexs_folder_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    index = listed(folder, generator={"path": path})
    with pytest.raises(InputError, match="lies outside of"):
        find_generator(BASE, None, "auto", index)


def test_a_file_that_is_not_the_one_listed_is_refused(tmp_path: Path) -> None:
    index = listed(tmp_path)
    other = tmp_path / "without-piqa.safetensors"
    hashes = [load_generator(tmp_path / f"{name}.safetensors").sha256[:12] for name in ("without-piqa", "full")]
    (tmp_path / "full.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(InputError, match=rf"full\.safetensors: this is generator {hashes[0]}, .* lists {hashes[1]}"):
        find_generator(BASE, None, "auto", index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSONDecodeError"),
        ("[]", "valid dictionary"),
        ("[" * 9000, "ValueError|RecursionError|JSONDecodeError"),
        ('{"format": 2, "models": {}}', "format: "),
        ('{"format": 1}', "models: "),
        ('{"format": 1, "models": {"b": {"name": "tiny", "variants": [{"name": "full"}]}}}', "generator|sources"),
        ('{"format": 1, "models": {}, "more": 1}', "more: "),
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str, message: str) -> None:
    index = tmp_path / "index.json"
    index.write_text(text)
    with pytest.raises(InputError, match=rf"index\.json: not an index of trained parts.*({message})"):
        pretrained.choose(BASE, None, "auto", index)

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
    entries = (("full", ["piqa", "boolq"], []), ("without-piqa", ["boolq"], ["piqa"]))
    for k, (name, sources, leaves_out) in enumerate(entries):
        generator = untrained()
        generator.made = {"number": k}
        sha256 = generator.save(folder / f"{name}.safetensors")
        entry = {"path": f"{name}.safetensors", "sha256": sha256, **changes.get("generator", {})}
        variants.append({"name": name, "sources": sources, "leaves_out": leaves_out, "generator": entry})
        variants[-1] |= changes.get(name.replace("-", "_"), {})
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"without_piqa": {"sources": ["boolq", "piqa"]}},
            "`without-piqa` has piqa among its sources and",
        ),
        (
            {"full": {"made": {"sources": ["piqa"]}}},
            "`full` lists sources piqa, boolq, its generator piqa",
        ),
        (
            {"full": {"made": {"aligner": {"fold-1": "piqa"}}}},
            "the aligner of `full` was trained by `fold-1`, which is not listed",
        ),
        (
            {"without_piqa": {"name": "fold-1"}, "full": {"made": {"aligner": {"fold-1": "piqa boolq"}}}},
            "the aligner of `full` has `fold-1` leave out piqa, boolq; it is listed with piqa",
        ),
    ],
)
def test_an_index_that_contradicts_itself_is_refused_with_both_sides(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=rf"index\.json: tiny: {message}"):
        pretrained.read_index(listed(tmp_path, **changes))
    agreeing = {"without_piqa": {"name": "fold-1"}, "full": {"made": {"aligner": {"fold-1": "piqa", "seed": "0"}}}}
    assert pretrained.read_index(listed(tmp_path, **agreeing))


def test_the_variant_kept_from_a_tasks_problems_in_other_words_serves_it(tmp_path: Path) -> None:
    gsm = "reasoning_gym_gsm_symbolic"
    index = listed(tmp_path, full={"sources": [gsm, "boolq"]}, without_piqa={"leaves_out": [gsm]})
    chosen = pretrained.choose(BASE, "gsm8k", "auto", index)
    assert chosen is not None
    assert chosen.name == "without-piqa"
    learnt = listed(tmp_path, full={"sources": [gsm]}, without_piqa={"sources": ["gsm8k"], "leaves_out": [gsm]})
    chosen = pretrained.choose(BASE, "gsm8k", "auto", learnt)
    assert chosen is not None
    assert chosen.name == "full"  # neither was kept from them; a run says that it saw the task

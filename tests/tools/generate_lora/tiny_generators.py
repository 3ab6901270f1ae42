"""Untrained generators of a tiny layout, and prompts for them."""

import torch
from torch import Tensor

from cao.model.adapters import adapter_sha256, initial_lora
from cao.model.profiles import LORA_TARGETS
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import Identity, TrainedGenerator
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import TokenLayout

BASE, ENCODER = "b" * 64, "e" * 64
PREFIX = "base_model.model.model.layers."
N, LENGTH, CHANNELS = 3, 6, 5


def shapes(layers: int, d: int, kv: int, ff: int) -> dict[str, tuple[int, int]]:
    """The matrices of a Llama or Qwen2 with grouped-query attention, by their PEFT names."""
    one = {
        "self_attn.q_proj": (d, d),
        "self_attn.k_proj": (kv, d),
        "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, d),
        "mlp.gate_proj": (ff, d),
        "mlp.up_proj": (ff, d),
        "mlp.down_proj": (d, ff),
    }
    return {f"{PREFIX}{i}.{name}": shape for i in range(layers) for name, shape in one.items()}


SMALL = TokenLayout.of(shapes(2, 8, 4, 12), 2, 8, (3, 7), (4, 9))


def untrained(layout: TokenLayout = SMALL, mode: StatisticsMode = "element", base: str = BASE) -> TrainedGenerator:
    """A generator with random weights; its residuals differ with the prompts."""
    start = initial_lora(layout.shapes(), LORA_TARGETS, layout.rank, layout.alpha, 7, base)
    ladder = Ladder(((N, LENGTH, CHANNELS), (4, 3, 4), (layout.tokens, *layout.frame)), 3, affine=mode == "layer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        checkpoints = 0.1 * torch.randn(3, layout.layers, layout.length)
        statistics, identity = Statistics.fit(mode, checkpoints), Identity(base, ENCODER, 7, adapter_sha256(start))
        generator = TrainedGenerator(ladder, layout, statistics, identity, train_centre=False)
        torch.nn.init.normal_(generator.place.weight)  # as if it had been trained
    generator.made = {"preset": "a test", "loss": 0.1 + 0.2}
    return generator.eval().requires_grad_(False)


def prompts(n: int, seed: int = 0, length: int = LENGTH, channels: int = CHANNELS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length, (n, 1), generator=generator)
    return torch.randn(n, length, channels, generator=generator) * mask.unsqueeze(-1), mask

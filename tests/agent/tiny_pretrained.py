"""A shelf of trained parts for the tiny random model: what is generated is small enough to check, not good.

The generator's decoder is random and whispers; what it says loudly is its centre, a residual that the caller chooses.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cao.files import sealed
from cao.machine.assets import minilm_folder
from cao.model.adapters import adapter_sha256
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from tools.align_lora.aligner import AlignerHeader, ChunkAligner
from tools.align_lora.fusion_vae import FusionShape, FusionVAE, chunk_count
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import Identity, TrainedGenerator
from tools.generate_lora.statistics import Statistics
from tools.generate_lora.tokens import TokenLayout, flatten

ROOT = Path(__file__).parents[2]
MODEL = "qwen2.5-0.5b"
PROMPTS = 4
"""N of the tiny generator."""


def load(folder: Path) -> LanguageModel:
    """The tiny model under the profile that the commands' tests use."""
    return load_language_model(MODELS[MODEL], path=str(folder), offline=True)


def layout_of(lm: LanguageModel) -> TokenLayout:
    return TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (16, 16))


def learned(lm: LanguageModel, lessons: list[tuple[str, str]], steps: int = 20) -> Tensor:
    """A residual (layers, D_l) that makes answers likelier, trained on two lessons a step from the initialisation.

    Args:
        lm: the model.
        lessons: prompts with what is to follow them.
        steps: of training.
    """
    start = lm.fresh_lora(0)
    rows = [(len(lm.encode(prefix)), lm.encode(f"{prefix}{answer}")) for prefix, answer in lessons]
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.Adam(live.values(), lr=1e-2)
        for step in range(steps):
            optimizer.zero_grad()
            for length, ids in (rows[2 * step % len(rows)], rows[(2 * step + 1) % len(rows)]):
                with lm.mixed_precision():
                    logits = lm.model(input_ids=torch.tensor([ids])).logits[0, length - 1 : -1].float()
                torch.nn.functional.cross_entropy(logits, torch.tensor(ids[length:])).backward()
            optimizer.step()
        tensors = {name: value.detach().clone() for name, value in live.items()}
    return flatten(tensors, layout_of(lm)) - flatten(start.tensors, layout_of(lm))


def generator_of(lm: LanguageModel, centre: Tensor) -> TrainedGenerator:
    """A generator that returns about ``centre``, whatever it is asked; its prompts move it a little."""
    layout, initial = layout_of(lm), lm.fresh_lora(0)
    identity = Identity(lm.sha256, Encoder(minilm_folder()).sha256, 0, adapter_sha256(initial))
    ladder = Ladder(((PROMPTS, 384, 384), (PROMPTS, 8, 16), (layout.tokens, *layout.frame)), 3, affine=False)
    statistics = Statistics("element", centre, torch.full((layout.layers, 1), 1e-3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TrainedGenerator(ladder, layout, statistics, identity, train_centre=False).eval().requires_grad_(False)


def aligner_of(lm: LanguageModel, generator: TrainedGenerator, size: float) -> ChunkAligner:
    """An aligner with random weights whose correction is about ``size`` in every weight."""
    layout, widths = generator.layout, (2, 4)
    width = int(lm.model.config.hidden_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vae = FusionVAE(FusionShape(widths, 4, width, 8, chunk_count(layout.total, 32 * 4 ** len(widths)), 4))
        torch.nn.init.normal_(vae.decoder[-1].bias)
        torch.nn.init.normal_(vae.decoder[-1].weight)
    header = AlignerHeader(
        target="checkpoint",
        base_sha256=lm.sha256,
        layout_sha256=layout.sha256,
        generator_sha256=generator.sha256,
        vector_prompts=4,
        provenance={"made_by": "a test, with random weights"},
    )
    statistics = {"scale": torch.full((layout.layers,), size), "mean": torch.zeros(width), "std": torch.ones(width)}
    return ChunkAligner(vae, header, layout, generator.initial, **statistics).eval().requires_grad_(False)


def shelve(
    folder: Path, lm: LanguageModel, centres: dict[str, Tensor], sources: dict[str, list[str]], size: float = 1e-4
) -> Path:
    """Write a generator and an aligner for each variant, and the index; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    variants: list[dict[str, Any]] = []
    for name, centre in centres.items():
        generator = generator_of(lm, centre)
        generator.save(folder / f"generator-{name}.safetensors")
        aligner = aligner_of(lm, generator, size)
        aligner.save(folder / f"aligner-{name}.safetensors")
        variants.append(
            {
                "name": name,
                "leaves_out": [name.removeprefix("without-")] if name.startswith("without-") else [],
                "sources": sources[name],
                "generator": {"path": f"generator-{name}.safetensors", "sha256": generator.sha256},
                "aligner": {"path": f"aligner-{name}.safetensors", "sha256": aligner.sha256},
                "made": {"preset": "a test, with random weights"},
            }
        )
    index = folder / "index.json"
    index.write_text(json.dumps(sealed({"format": 1, "models": {lm.sha256: {"name": MODEL, "variants": variants}}})))
    return index

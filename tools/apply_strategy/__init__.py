"""Apply: turn a strategy and the unlabelled prompts into an adapted model. A family has a kernel file each.

Source: CAO-LLM §2.4 (Operating), G.1-G.6.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors.torch import save

from cao.errors import NotApplicableError
from cao.files import sha256_bytes, write_atomic
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.encoder import pool
from cao.model.language_model import LanguageModel
from cao.model.profiles import ModelProfile
from cao.progress import Progress, silent
from cao.strategy import TTL, TTS, Latent, LoraMix, Strategy, validate_strategy
from cao.types import AdaptedModel, AdapterRef, LatentSettings
from tools.apply_strategy import latent, lora_mix, ttl, tts
from tools.generate_lora.conditioning import Generator, PromptEncoder, condition

__all__ = ["FAMILIES", "applicable", "apply_strategy"]


@dataclass(frozen=True)
class _Scene:
    """What the families act on."""

    prompts: list[str]
    adapter: AdapterRef | None
    seed: int
    lm: LanguageModel
    store: Path
    generator: Generator | None
    encoder: PromptEncoder | None
    checkpoint: Path | None
    progress: Progress

    def current(self) -> LoraWeights | None:
        return load_adapter(Path(self.adapter.path), self.lm.sha256) if self.adapter else None

    def keep(self, weights: LoraWeights) -> AdapterRef:
        return save_adapter(self.store, weights, self.lm.source)


def _ttl(strategy: TTL, scene: _Scene) -> AdaptedModel:
    start = scene.current() or scene.lm.fresh_lora(scene.seed)
    trained = ttl.train_ttl(
        scene.lm,
        scene.prompts,
        strategy,
        start,
        scene.seed,
        progress=scene.progress,
        checkpoint=scene.checkpoint,
    )
    told = trained.provenance
    note = (
        f"{told['steps']} steps on the {told['passed']} prompts that passed P0; their loss went from "
        f"{told['loss_before']} to {told['loss_after']} nats per token"
    )
    return AdaptedModel(members=(scene.keep(trained),), note=note)


def _lora(strategy: LoraMix, scene: _Scene) -> AdaptedModel:
    weights = scene.current()
    assert weights is not None  # _obstacle_lora
    mixed = scene.keep(lora_mix.mix(weights, strategy.lambda_))
    note = f"the halves of the adapter's rank {mixed.rank} mixed with lambda {strategy.lambda_:g}"
    return AdaptedModel(members=(mixed,), note=note)


def _tts(strategy: TTS, scene: _Scene) -> AdaptedModel:
    assert scene.generator is not None  # _obstacle_tts
    if scene.encoder is None:
        raise ValueError("TTS needs the encoder of the prompts")
    members, embeddings = [], []
    given = condition(scene.prompts, scene.generator, scene.encoder)
    batches = tts.prompt_batches(range(len(given.kept)), strategy.num_prompt_batches, scene.seed)
    for done, rows in enumerate(batches, 1):
        members.append(scene.keep(given.adapter(rows)))
        embeddings.append(pool(given.states[rows], given.mask[rows]))
        scene.progress("generating adapters", done, len(batches))
    note = f"{len(members)} adapters from as many prompt batches, together by {strategy.method}"
    if strategy.method not in tts.ROUTING:
        return AdaptedModel(members=tuple(members), method=strategy.method, note=note)
    data = save({"places": tts.centroids(embeddings, strategy.method).contiguous()})
    path = scene.store / f"routes-{sha256_bytes(data)}.safetensors"
    write_atomic(path, data)
    return AdaptedModel(members=tuple(members), method=strategy.method, centroids=str(path), note=note)


def _latent(strategy: Latent, scene: _Scene) -> AdaptedModel:
    settings = LatentSettings(slot_steps=strategy.slot_steps, slot_lr=strategy.slot_lr)
    note = f"each question gets its own vector from {settings.slot_steps} steps at rate {settings.slot_lr:g}"
    return AdaptedModel(members=(scene.adapter,), latent=settings, note=note)


def _no_obstacle(adapter: AdapterRef | None, generator: Generator | None, profile: ModelProfile) -> str | None:
    return None


def _obstacle_lora(adapter: AdapterRef | None, generator: Generator | None, profile: ModelProfile) -> str | None:
    if adapter is None:
        return f"there is no adapter to mix: none was generated for {profile.name}"
    return f"the adapter has the odd rank {adapter.rank}: mixing needs two equal halves" if adapter.rank % 2 else None


def _obstacle_tts(adapter: AdapterRef | None, generator: Generator | None, profile: ModelProfile) -> str | None:
    return None if generator else f"there is nothing to route over: no generator exists for {profile.name}"


@dataclass(frozen=True)
class Family:
    """How a family is applied.

    Attributes:
        kernel: the module with its formulas.
        apply: what it does; gets a strategy of its own family only.
        obstacle: why it cannot act at present, or None.
    """

    kernel: ModuleType
    apply: Callable[[Any, _Scene], AdaptedModel]
    obstacle: Callable[[AdapterRef | None, Generator | None, ModelProfile], str | None]


FAMILIES: dict[str, Family] = {
    "TTL": Family(ttl, _ttl, _no_obstacle),
    "LORA": Family(lora_mix, _lora, _obstacle_lora),
    "TTS": Family(tts, _tts, _obstacle_tts),
    "Latent": Family(latent, _latent, _no_obstacle),
}


def applicable(adapter: AdapterRef | None, generator: Generator | None, profile: ModelProfile) -> dict[str, str | None]:
    """Return, for each family, None where it can act now, or the reason why not, in one sentence.

    Args:
        adapter: the current adapter, None for the plain base model.
        generator: a trained generator for the base model, None where there is none.
        profile: the base model's.
    """
    return {name: family.obstacle(adapter, generator, profile) for name, family in FAMILIES.items()}


def apply_strategy(
    strategy: Strategy | Mapping[str, Any],
    prompts: list[str],
    adapter: AdapterRef | None,
    seed: int,
    *,
    lm: LanguageModel,
    store: Path,
    generator: Generator | None = None,
    encoder: PromptEncoder | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> AdaptedModel:
    """Apply one strategy to the current model; the base weights are never written, new ones go to the store.

    Args:
        strategy: a validated strategy, or its JSON object.
        prompts: the unlabelled support prompts.
        adapter: the current adapter, None for the plain base model.
        seed: of everything random in it; equal arguments give an equal result.
        lm: the base model, undressed.
        store: folder for adapters and routing files.
        generator: makes TTS's adapters.
        encoder: encodes the prompts for the generator; needed with it.
        checkpoint: file that a killed TTL goes on from.
        progress: told about long work.

    Returns:
        What to score with; ``note`` says in one sentence what was done.

    Raises:
        NotApplicableError: the strategy has nothing to act on at present, or diverges.
        StrategyRejectedError: a JSON object that is no strategy.
        InputError: the current adapter or the checkpoint cannot be used.

    Source: CAO-LLM §2.4, G.1-G.6.
    """
    valid = validate_strategy(dict(strategy)) if isinstance(strategy, Mapping) else strategy
    family = FAMILIES[valid.family]
    obstacle = family.obstacle(adapter, generator, lm.profile)
    if obstacle:
        raise NotApplicableError(obstacle)
    scene = _Scene(prompts, adapter, seed, lm, store, generator, encoder, checkpoint, progress)
    return family.apply(valid, scene)

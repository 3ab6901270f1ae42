"""The generators that a consolidation trains, each with what it never sees."""

from dataclasses import dataclass

from agent.train.generator.presets import Preset
from cao.tasks.same_problems import saw
from tools.pretrained import FOLD


@dataclass(frozen=True)
class Variant:
    """A generator with its aligner.

    Attributes:
        name: ``full``, ``without-TASK``, ``fold-N``, or the name of a set of sources of its own.
        sources: the tasks that it is trained on.
        leaves_out: the tasks that it never sees on purpose.
    """

    name: str
    sources: tuple[str, ...]
    leaves_out: tuple[str, ...] = ()


def variants(preset: Preset) -> list[Variant]:
    """Return the full variant, one without each source of ``leave_out``, one for each fold, and the extra ones.

    Source number i is left out by fold 1 + i mod K, so that tasks that stand together in the list are in all folds.
    What leaves a task out leaves out its problems in other words, too.
    """
    listed = [Variant("full", preset.sources)]
    for name in (task for task in preset.sources if task in preset.leave_out):
        listed.append(_without(preset, f"without-{name}", (name,)))
    for fold in range(preset.folds):
        left = tuple(source for i, source in enumerate(preset.sources) if i % preset.folds == fold)
        listed.append(_without(preset, f"{FOLD}{fold + 1}", left))
    return listed + [Variant(name, sources) for name, sources in preset.extra.items()]


def _without(preset: Preset, name: str, left: tuple[str, ...]) -> Variant:
    return Variant(name, tuple(source for source in preset.sources if not saw(source, left)), left)


def folds(preset: Preset) -> list[Variant]:
    """Return the variants that each leave a part of the sources out."""
    return [variant for variant in variants(preset) if variant.name.startswith(FOLD)]


def aligned(preset: Preset) -> list[str]:
    """Return the names of the variants that an aligner is trained behind: those that serve tasks at use.

    A gain aligner learns from the folds' adapters for what they never saw, so there is one behind the full generator.
    A fold has none of its own: it would have to come from folds within the fold. Without folds there is no gain
    aligner, and without checkpoints no Fusion VAE but one that reconstructs the generated weights.
    """
    if preset.gains:
        return ["full"] if preset.folds else []
    if preset.generator.reconstruction == 0 and preset.aligner.target == "checkpoint":
        return []
    return [variant.name for variant in variants(preset) if variant not in folds(preset)]

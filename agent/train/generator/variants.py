"""The generators that a consolidation trains: one on all sources, and one without each that is left out."""

from dataclasses import dataclass

from agent.train.generator.presets import Preset


@dataclass(frozen=True)
class Variant:
    """A generator with its aligner.

    Attributes:
        name: ``full`` or ``without-TASK``.
        sources: the tasks that it is trained on.
        leaves_out: the tasks that it never sees.
    """

    name: str
    sources: tuple[str, ...]
    leaves_out: tuple[str, ...] = ()


def variants(preset: Preset) -> list[Variant]:
    """Return the full variant and one without each source of ``leave_out``; other tasks were never seen anyway."""
    listed = [Variant("full", preset.sources)]
    for name in (task for task in preset.sources if task in preset.leave_out):
        listed.append(Variant(f"without-{name}", tuple(s for s in preset.sources if s != name), (name,)))
    return listed

"""The presets of consolidation: every size and rate of stages 1 and 2 under one name.

``paper-0.5b`` and ``paper-1.5b`` follow Tables 8 and 9 and appendix F; what those leave open stands in the ADRs.
``embedded`` is sized for SmolLM2-135M on two CPU cores: hours, not days.
"""

from cao.configuration import Count
from cao.errors import InputError
from cao.types import Record
from tools.align_lora.presets import EMBEDDED as EMBEDDED_ALIGNER
from tools.align_lora.presets import PAPER as PAPER_ALIGNER
from tools.align_lora.presets import AlignerPreset
from tools.detect_drift.reference import IN_DOMAIN
from tools.generate_lora.checkpoints import CheckpointPreset
from tools.generate_lora.decoder import Ladder, paper_ladder
from tools.generate_lora.statistics import StatisticsMode
from tools.generate_lora.tokens import TokenLayout
from tools.generate_lora.training import GeneratorPreset

OTHER_SOURCES = (
    *("commonsense_qa", "openbookqa", "sciq", "mmlu_math", "mmlu_physics", "mmlu_chemistry", "mmlu_biology"),
    *("mmlu_medicine", "mmlu_economics", "mmlu_psychology", "mmlu_philosophy"),
    *("mmlu_politics", "mmlu_business", "mmlu_general"),
)
"""Sources beyond the paper's six, for variety; none of them is among the tasks that results are reported on."""


class Preset(Record):
    """Everything that decides what a consolidation does, besides model and seed.

    Attributes:
        name: its name on the command line.
        sources: tasks whose train parts are used.
        leave_out: tasks for which a generator that never saw them is trained too.
        ladder: the decoder's sizes; None as the last shape's first number stands for the layout's tokens.
        token: scalars of a LoRA token, (h, w).
        statistics: how residuals are normalised.
        checkpoints: how they are collected.
        generator: how the generator is trained.
        aligner: sizes and schedule of the Fusion VAE.
        row_tokens: tokens of a training question with its answer, at most; longer ones keep their end.
        prompts_encoded: training prompts of a task that conditioning tensors are drawn from, at most.
        pairs: generated adapters of each task that the aligner is trained on.
    """

    name: str
    sources: tuple[str, ...]
    leave_out: tuple[str, ...]
    ladder: Ladder
    token: tuple[Count, Count]
    statistics: StatisticsMode
    checkpoints: CheckpointPreset
    generator: GeneratorPreset
    aligner: AlignerPreset
    row_tokens: Count
    prompts_encoded: Count
    pairs: Count

    def layout(self, shapes: dict[str, tuple[int, int]], rank: int, alpha: int) -> TokenLayout:
        """Return the token layout for a model.

        Raises:
            InputError: the decoder does not end in this model's tokens.
        """
        last = self.ladder.shapes[-1]
        layout = TokenLayout.of(shapes, rank, alpha, self.token, (last[1], last[2]))
        if layout.tokens != last[0]:
            raise InputError(f"preset {self.name} makes {last[0]} tokens, this model has {layout.tokens}")
        return layout


def _paper(name: str, size: str, token: tuple[int, int]) -> Preset:
    return Preset(
        name=name,
        sources=IN_DOMAIN,
        leave_out=IN_DOMAIN,
        ladder=paper_ladder(size, 64),
        token=token,
        statistics="layer",
        checkpoints=CheckpointPreset(),
        generator=GeneratorPreset(steps=5000, tasks=4, rate=3e-5, behaviour_from=5000, noise=0.0, few=0.0),
        aligner=PAPER_ALIGNER,
        row_tokens=384,
        prompts_encoded=5000,
        pairs=16,
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="embedded",
            sources=(*IN_DOMAIN, *OTHER_SOURCES),
            leave_out=IN_DOMAIN,
            ladder=Ladder(
                ((16, 384, 384), (16, 16, 32), (32, 16, 64), (96, 16, 128), (600, 16, 128)), kernel=3, affine=False
            ),
            token=(16, 128),
            statistics="element",
            checkpoints=CheckpointPreset(warm_steps=40, warm_rate=3e-4, kept_steps=10, kept_rate=3e-5, batch=16),
            generator=GeneratorPreset(steps=190, tasks=3, rate=5e-3, centre_rate=5e-4, behaviour_from=120),
            aligner=EMBEDDED_ALIGNER,
            row_tokens=128,
            prompts_encoded=256,
            pairs=4,
        ),
        _paper("paper-0.5b", "0.5b", (8, 128)),
        _paper("paper-1.5b", "1.5b", (16, 256)),
    )
}

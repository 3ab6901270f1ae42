"""The presets of consolidation: every size and rate of stages 1 and 2 under one name.

``paper-0.5b`` and ``paper-1.5b`` follow Tables 8 and 9 and appendix F; what those leave open stands in the ADRs.
``wide`` is sized for SmolLM2-135M on two CPU cores: hours, not days. ``small`` is the same in about an hour: one
generator, fewer sources and steps, no aligner; a model without a preset of its own begins with it. ``embedded`` is the
design that was shipped before them.
"""

from dataclasses import replace

from pydantic import Field

from cao.configuration import Count, CountOrNone
from cao.errors import InputError
from cao.tasks import PRACTICE
from cao.types import Record
from tools.align_lora.presets import EMBEDDED as EMBEDDED_ALIGNER
from tools.align_lora.presets import PAPER as PAPER_ALIGNER
from tools.align_lora.presets import AlignerPreset, GainPreset
from tools.detect_drift.reference import IN_DOMAIN
from tools.generate_lora.checkpoints import CheckpointPreset
from tools.generate_lora.decoder import Ladder, paper_ladder
from tools.generate_lora.generator_file import Head, written
from tools.generate_lora.sources import GeneratorPreset
from tools.generate_lora.statistics import StatisticsMode
from tools.generate_lora.tokens import TokenLayout

REPORTED: tuple[str, ...] = (*IN_DOMAIN, "gsm8k", "math", "social_iqa", "mmlu_logic", "mmlu_cs", "medqa")
"""Tasks that generated adapters are judged on."""

EVALUATED = (*REPORTED, "basic_skills_logical_reasoning")
"""Tasks that any results are reported on; no other source has a question of theirs."""

OTHER_SOURCES = (
    *("commonsense_qa", "openbookqa", "sciq", "mmlu_physics", "mmlu_chemistry", "mmlu_biology"),
    *("mmlu_medicine", "mmlu_economics", "mmlu_psychology", "mmlu_philosophy"),
    *("mmlu_politics", "mmlu_business", "mmlu_general"),
)
"""Sources of ``small``, and of ``embedded`` beyond the paper's six; none shares its questions with a reported task."""

_TWINS = ("mmlu_high_school_mathematics",)
"""Has a third of its questions in ``math``."""

WIDE_SOURCES = (
    *(*IN_DOMAIN, "commonsense_qa", "openbookqa", "sciq"),
    *(name for name in PRACTICE if name not in (*EVALUATED, *_TWINS)),
)
"""Sources of ``wide``: the paper's six, three more, and the tasks to practise on."""


class Preset(Record):
    """Everything that decides what a consolidation does, besides model and seed.

    Attributes:
        name: its name on the command line.
        sources: tasks whose train parts are used.
        leave_out: tasks for which a generator that never saw them is trained too.
        folds: parts that the sources are divided into; for each of them a generator is trained on all others.
        extra: further generators: name → their sources; what is set replaces the preset's whole table.
        head: what the decoder writes.
        ladder: the decoder's sizes; it ends in what the head needs.
        token: scalars of a LoRA token, (h, w).
        statistics: how residuals are normalised.
        checkpoints: how they are collected; none are where ``generator.reconstruction`` is 0.
        generator: how the generator is trained.
        aligner: sizes and schedule of the Fusion VAE.
        row_tokens: tokens of a training question with its answer or its choices, at most; longer ones keep their end.
        prompts_encoded: training prompts of a task that conditioning tensors are drawn from, at most.
        validated: questions of a source that a finished generator is measured on, at most.
        pairs: generated adapters of each task that the aligner is trained on.
        gains: sizes and schedule of a gain aligner, trained across the folds in the place of the Fusion VAE; there is
            none where ``folds`` is 0.
    """

    name: str
    sources: tuple[str, ...]
    leave_out: tuple[str, ...]
    folds: CountOrNone = 0
    extra: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    head: Head = "tokens"
    ladder: Ladder
    token: tuple[Count, Count]
    statistics: StatisticsMode
    checkpoints: CheckpointPreset
    generator: GeneratorPreset
    aligner: AlignerPreset
    row_tokens: Count
    prompts_encoded: Count
    validated: Count = 48
    pairs: Count
    gains: GainPreset | None = None

    def layout(self, shapes: dict[str, tuple[int, int]], rank: int, alpha: int) -> TokenLayout:
        """Return the token layout for a model.

        Args:
            shapes: of the matrices that carry LoRA.
            rank: the model profile's.
            alpha: the model profile's.

        Raises:
            InputError: the decoder does not end in what this model needs.
        """
        layout, last = self._laid(shapes, rank, alpha), self.ladder.shapes[-1]
        if written(self.head, layout) != last:
            fitting = [list(shape) for shape in self.fitted(shapes, rank, alpha).ladder.shapes]
            raise InputError(
                f"preset {self.name}: the decoder ends in {last}, this model needs {written(self.head, layout)}; add "
                f"--set 'ladder.shapes={fitting}'"
            )
        return layout

    def fitted(self, shapes: dict[str, tuple[int, int]], rank: int, alpha: int) -> "Preset":
        """Return the preset with a decoder that ends in what a model needs; the steps before stay."""
        last = written(self.head, self._laid(shapes, rank, alpha))
        return self.model_copy(update={"ladder": replace(self.ladder, shapes=(*self.ladder.shapes[:-1], last))})

    def _laid(self, shapes: dict[str, tuple[int, int]], rank: int, alpha: int) -> TokenLayout:
        last = self.ladder.shapes[-1]
        frame = (last[1], last[2]) if self.head == "tokens" else None
        return TokenLayout.of(shapes, rank, alpha, self.token, frame)


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


WIDE = Preset(
    name="wide",
    sources=WIDE_SOURCES,
    leave_out=(),
    folds=2,
    extra={"paper": IN_DOMAIN},
    head="core",
    ladder=Ladder(((16, 384, 384), (16, 16, 32), (30, 32, 32), (30, 28, 4)), kernel=3, affine=False),
    token=(16, 128),
    statistics="element",
    checkpoints=CheckpointPreset(warm_steps=40, warm_rate=3e-4, kept_steps=10, kept_rate=3e-5, batch=16, samples=800),
    generator=GeneratorPreset(
        steps=200,
        tasks=2,
        rate=1e-2,
        centre_rate=1e-3,
        reconstruction=0.0,
        answers=0.3,
        choices=1.0,
        batch=8,
        unprompted=0.1,
        contrast=1.0,
        contrast_every=1,
    ),
    aligner=EMBEDDED_ALIGNER,
    row_tokens=192,
    prompts_encoded=64,
    validated=8,
    pairs=2,
    gains=GainPreset(),
)

SMALL = WIDE.model_copy(
    update={
        "name": "small",
        "sources": OTHER_SOURCES,
        "folds": 0,
        "extra": {},
        "checkpoints": WIDE.checkpoints.model_copy(update={"samples": 320}),
        "generator": WIDE.generator.model_copy(update={"steps": 100, "batch": 4, "contrast_every": 2}),
    }
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        WIDE,
        SMALL,
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

"""The adapters that the tables look at: what ships makes of a task's prompts, and the baselines that are at hand."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from agent.loop.trained import Trained, find_trained
from cao.errors import CaoError, NotApplicableError, UnavailableError
from cao.files import canonical_json, sha256_bytes
from cao.machine.assets import minilm_folder
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.tasks import get_task
from cao.tasks.splits import choose, part
from cao.types import Example
from eval.generation.sheets import PROMPTS
from eval.kept import Kept
from eval.paper.adapters.meta import Meta
from eval.questions import asked_prompts
from tools import pretrained
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.task_vector import condition as aligner_condition
from tools.generate_lora import how_to_train
from tools.generate_lora.conditioning import condition
from tools.generate_lora.generator import TrainedGenerator

START, CENTRE, GENERATED, ALIGNED = "start", "centre", "generated", "aligned"
MAML, MAML_ADAPTED, CHECKPOINT = "maml", "maml_adapted", "checkpoint"

TITLES = {
    START: "LoRA's initialisation (B = 0)",
    CENTRE: "generator without prompts",
    GENERATED: "CAO-LLM, generated",
    ALIGNED: "CAO-LLM, aligned",
    MAML: "MAML-en-LLM, meta-trained",
    MAML_ADAPTED: "MAML-en-LLM, adapted to the task",
    CHECKPOINT: "trained on the task (checkpoint)",
}
"""Kind of adapter → how it is called on the pages."""


@dataclass
class Stock:
    """Makes each kind of adapter for a task, or says why there is none.

    Attributes:
        lm: the base model, undressed.
        kept: where what is made is kept.
        folder: of trained parts; None for the shipped one.
        meta: the baselines of a consolidation's folder.
        command: that measures, for what crashes.
        variant: of the trained parts, for every task; ``auto`` takes one that never saw the task.
    """

    lm: LanguageModel
    kept: Kept
    folder: str | None
    meta: Meta
    command: str = ""
    variant: str = pretrained.AUTO
    _variants: dict[str, Trained] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return Encoder(minilm_folder(), self.lm.device)

    def support(self, task: str, seed: int) -> list[Example]:
        """Return the examples whose prompts an adapter is made from: those that a run with this seed has."""
        return choose(part(get_task(task), "support"), PROMPTS, f"{seed}:support")

    def trained(self, task: str) -> Trained:
        """Return what serves a task: of the variant ``auto``, a generator that never saw it.

        Raises:
            UnavailableError: nothing was trained for this model.
        """
        chosen = pretrained.choose(self.lm.sha256, task, self.variant, index=pretrained.index_of(self.folder))
        name = chosen.name if chosen else ""
        if name not in self._variants:
            self._variants[name] = find_trained(self.lm.sha256, task, self.variant, align=True, folder=self.folder)
        return self._variants[name]

    def generator(self, task: str) -> TrainedGenerator:
        """Return the generator that serves a task; raises as ``trained`` does."""
        generator = self.trained(task).generator
        if generator is None:
            profile = self.lm.profile
            raise UnavailableError(f"no generator is trained for {profile.name}; {how_to_train(profile)}")
        return generator.to(self.lm.device)

    def served(self, tasks: Sequence[str]) -> dict[str, str]:
        """Return task → variant of the generator that serves it, without the tasks that none serves."""
        found = dict[str, str]()
        for task in tasks:
            with suppress(CaoError):
                self.generator(task)
                found[task] = str(self.trained(task).variant)
        return found

    def aligner(self, task: str) -> TrainedAligner:
        """Return the aligner behind the generator that serves a task.

        Raises:
            NotApplicableError: there is none.
            UnavailableError: nothing was trained for this model.
        """
        self.generator(task)
        trained = self.trained(task)
        if trained.aligner is None:
            raise NotApplicableError(
                f"no aligner stands behind `{trained.variant}`, which serves {task}: the one that ships was trained "
                "across the folds, so it aligns tasks that are no source alone (ADR 35)"
            )
        return trained.aligner.to(self.lm.device)

    def make(self, kind: str, task: str, seed: int) -> LoraWeights:
        """Return an adapter of a kind for a task.

        Args:
            kind: of ``TITLES``.
            task: a known task.
            seed: of its support questions.

        Raises:
            CaoError: there is none; its message says why and what provides it.
        """
        makers: Mapping[str, Callable[[], LoraWeights]] = {
            START: lambda: self.lm.fresh_lora(0),
            CENTRE: lambda: self.generator(task).unconditional(),
            GENERATED: lambda: self._generated(task, seed),
            ALIGNED: lambda: self._aligned(task, seed),
            MAML: lambda: self.meta.start(task),
            MAML_ADAPTED: lambda: self._adapted(task, seed),
            CHECKPOINT: lambda: self.meta.checkpoint(task),
        }
        return makers[kind]()

    def condition(self, task: str, seed: int) -> "Conditioned":
        """Return the generated adapter with what the aligner is told of the task; raises as ``aligner`` does."""
        aligner = self.aligner(task)
        weights = self._generated(task, seed)
        depends_on = {"aligner": aligner.sha256, "start": adapter_sha256(weights), "support": self._about(task, seed)}

        def told() -> dict[str, Tensor]:
            asked = asked_prompts(task, self.support(task, seed), self.lm.profile.answer_style)
            limit, whole = aligner.header.vector_prompts, aligner.reads_base_state
            return {"condition": aligner_condition(self.lm, weights, asked, limit, with_base_state=whole)}

        vector = self.kept.tensors(f"condition-{task}-{seed}", depends_on, told)["condition"]
        return Conditioned(aligner, weights, vector)

    def _generated(self, task: str, seed: int) -> LoraWeights:
        generator = self.generator(task)
        prompts = [example.prompt for example in self.support(task, seed)]
        depends_on = {"generator": generator.sha256, "support": self._about(task, seed)}
        return self.kept.adapter(
            f"generated-{task}-{seed}",
            depends_on,
            lambda: condition(prompts, generator, self.encoder).adapter(),
        )

    def _aligned(self, task: str, seed: int) -> LoraWeights:
        told = self.condition(task, seed)
        return told.aligner.align(told.weights, told.vector)

    def _adapted(self, task: str, seed: int) -> LoraWeights:
        depends_on = {"baseline": self.meta.fingerprint(task, seed)}
        return self.kept.adapter(f"maml-{task}-{seed}", depends_on, lambda: self.meta.adapted(task, seed))

    def _about(self, task: str, seed: int) -> str:
        return about(self.support(task, seed))


@dataclass(frozen=True)
class Conditioned:
    """A generated adapter with its aligner's condition.

    Attributes:
        aligner: that stands behind the generator.
        weights: the generated adapter.
        vector: (v,) the aligner's condition.
    """

    aligner: TrainedAligner
    weights: LoraWeights
    vector: Tensor


def about(examples: Sequence[Example]) -> str:
    """Return the hash of questions with their answers, which what is made of them depends on."""
    return sha256_bytes(canonical_json([example.model_dump(mode="json") for example in examples]).encode())

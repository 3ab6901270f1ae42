"""MAML-en-LLM and trained checkpoints from a consolidation's folder, where they are at hand."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from agent.train.generator.generators import INITIAL_SEED
from cao.errors import UnavailableError
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from eval.baselines.baseline import Budget, adapted, fingerprint_of, preparation_path, prepared
from eval.baselines.ground import FEW, Ground, fresh_lora, ground_of
from eval.baselines.maml import MamlEnLlm
from eval.baselines.objective import Objective
from eval.generation.consolidation import open_folder
from eval.generation.workshop import Workshop
from eval.paper.making import TEST_STEPS, equal_budget
from tools.generate_lora import how_to_train
from tools.generate_lora.tokens import flatten, unflatten

RATE = 3e-4
"""Of MAML's two loops where it is trained here: the middle of the grid that equal rules choose from."""


@dataclass
class Meta:
    """The baselines of a consolidation's folder.

    Attributes:
        lm: the base model, undressed.
        folder: the consolidation's; None where there is none.
        model_path: a folder that took the place of the model profile's source; None for none.
        tokens: that a meta-training here may read; 0 trains none.
        progress: called during long work.
    """

    lm: LanguageModel
    folder: Path | None
    model_path: str | None
    tokens: int
    progress: Progress

    @cached_property
    def workshop(self) -> Workshop:
        """The opened folder; raises UnavailableError where there is none."""
        if self.folder is None:
            profile = self.lm.profile
            raise UnavailableError(
                f"it takes --consolidation DIR, a folder of python -m agent.consolidate; {how_to_train(profile)}"
            )
        opened = open_folder(
            self.folder, model_path=self.model_path, device=self.lm.device, offline=True, progress=self.progress
        )
        return Workshop(replace(opened, load_lm=lambda: self.lm))

    def ground(self, task: str) -> Ground:
        """Return the sources of the generator that never saw a task."""
        return ground_of(self.workshop, task, self.progress)

    def baseline(self, task: str) -> MamlEnLlm:
        """Return MAML-en-LLM as it is at hand: Table 2's under either rules, else one that may be trained here.

        Raises:
            UnavailableError: none is trained, and none may be here.
        """
        ground = self.ground(task)
        if self.tokens:
            return self._short(ground)
        budget = equal_budget(ground)
        equal = [MamlEnLlm.equal(budget.left(), rate, ground) for rate in budget.rates]
        kept = [each for each in (*equal, MamlEnLlm.paper()) if preparation_path(each, ground).exists()]
        if not kept:
            raise UnavailableError(
                f"no MAML-en-LLM is trained on the sources of `{ground.variant.name}`; run: python -m eval.tables "
                f"--table 2 --consolidation {self.folder} --methods maml, or give --maml-tokens N for a short one"
            )
        return kept[0]

    def _short(self, ground: Ground) -> MamlEnLlm:
        """Return a meta-training of some tokens, of the gold answers' loss alone, which the gradients are of."""
        batch = ground.workshop.consolidation.preset.generator.batch
        made = MamlEnLlm.equal(Budget(preparing=self.tokens, adapting=self.tokens, rates=(RATE,)), RATE, ground)
        testing = made.hyper.testing.model_copy(update={"steps": TEST_STEPS, "tokens": 0})
        hyper = {"objective": Objective(), "testing": testing, "batch": max(1, batch // 2), "support": FEW}
        return replace(made, hyper=made.hyper.model_copy(update=hyper))

    def start(self, task: str) -> LoraWeights:
        """Return the meta-trained weights that serve a task; raises as ``baseline`` does."""
        baseline, ground = self.baseline(task), self.ground(task)
        tensors = dict(prepared(baseline, ground).tensors)
        return replace(fresh_lora(self.lm, baseline.hyper.targets), tensors=tensors)

    def adapted(self, task: str, seed: int) -> LoraWeights:
        """Return the weights after MAML's steps on labelled support questions of a task."""
        baseline, ground = self.baseline(task), self.ground(task)
        made = adapted(baseline, ground, prepared(baseline, ground), ground.target(task, seed)).weights
        assert made is not None, task
        return made

    def fingerprint(self, task: str, seed: int) -> str:
        """Return the hash of everything that ``adapted`` depends on."""
        ground = self.ground(task)
        return fingerprint_of(self.baseline(task), ground, ground.target(task, seed).about())

    def spent(self, task: str) -> str:
        """Return what the meta-training that serves a task read, in words."""
        baseline, ground = self.baseline(task), self.ground(task)
        spent = prepared(baseline, ground).spent
        rate, sources = baseline.hyper.outer_rate, len(ground.variant.sources)
        return f"{spent.steps:,} meta-steps on {sources} sources, {spent.tokens or 0:,} tokens, rate {rate:g}"

    def checkpoint(self, task: str) -> LoraWeights:
        """Return the mean checkpoint of a source.

        Raises:
            UnavailableError: none was collected.
        """
        name = f"checkpoints/{task}"
        if not self.workshop.has(f"{name}-average"):
            raise UnavailableError(
                f"{self.folder} has no checkpoint of {task}: it is no source, or the preset trains generators through "
                "the model alone; --preset embedded collects checkpoints"
            )
        start, layout = self.lm.fresh_lora(INITIAL_SEED), self.workshop.consolidation.layout
        flat = flatten(start.tensors, layout) + self.workshop.consolidation.average(name)
        tensors = {key: part.clone() for key, part in unflatten(flat, layout).items()}
        return replace(start, tensors=tensors, provenance={"made_by": name})

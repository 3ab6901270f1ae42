"""MAML-en-LLM and trained checkpoints on the sources that Table 2 has, where they are at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from agent.train.generator.generators import INITIAL_SEED
from cao.errors import UnavailableError
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from eval.baselines.baseline import TEST_STEPS, Budget, adapted, fingerprint_of, preparation_path, prepared
from eval.baselines.ground import FEW, Ground, fresh_lora, ground_of
from eval.baselines.maml import MamlEnLlm
from eval.baselines.objective import Objective
from eval.generation.workshop import Workshop
from eval.paper.adapters.verdicts import UNTRAINED
from eval.paper.making import equal_budget
from eval.paper.sizes import SIZES, allowed
from tools.generate_lora.tokens import flatten, unflatten

RATE = 3e-4
"""Of MAML's two loops where it is trained here: the middle of the grid that equal rules choose from."""


@dataclass
class Meta:
    """The baselines on the sources of the generators.

    Attributes:
        lm: the base model, undressed.
        open_sources: opens Table 2's sources; raises UnavailableError where nobody knows any for this model.
        tokens: that a meta-training here may read; 0 trains none.
        progress: called during long work.
    """

    lm: LanguageModel
    open_sources: Callable[[], Workshop]
    tokens: int
    progress: Progress

    @cached_property
    def workshop(self) -> Workshop:
        """The opened sources; raises as ``open_sources`` does."""
        return self.open_sources()

    def ground(self, task: str) -> Ground:
        """Return the sources of the generator that never saw a task."""
        return ground_of(self.workshop, task, self.progress)

    def baseline(self, task: str) -> MamlEnLlm:
        """Return MAML-en-LLM as it is at hand: the longest of Table 2's, else one that may be trained here.

        Raises:
            UnavailableError: none is trained, and none may be here.
        """
        ground = self.ground(task)
        if self.tokens:
            return self._short(ground)
        kept = self._of_table_2(ground) if any(ground.folder.glob(f"{MamlEnLlm.name}-*.safetensors")) else []
        if not kept:
            raise UnavailableError(
                f"{UNTRAINED} on the sources of `{ground.variant.name}`; run: python -m eval.tables "
                f"--table 2 --model {self.lm.profile.name} --methods maml, or give --maml-tokens N for a short one"
            )
        return kept[0]

    def _of_table_2(self, ground: Ground) -> list[MamlEnLlm]:
        """Return those that Table 2 trained on some sources: at equal budgets, the largest first, or as published."""
        whole = equal_budget(ground)
        budgets = sorted((allowed(preset, whole) for preset in SIZES), key=lambda one: -one.preparing)
        equal = [MamlEnLlm.equal(one.left(), rate, ground) for one in budgets for rate in one.rates]
        return [each for each in (*equal, MamlEnLlm.paper()) if preparation_path(each, ground).exists()]

    def _short(self, ground: Ground) -> MamlEnLlm:
        """Return a meta-training of some tokens, of the gold answers' loss alone, which the gradients are of."""
        batch = ground.workshop.consolidation.preset.generator.batch
        made = MamlEnLlm.equal(Budget(preparing=self.tokens, adapting=0, rates=(RATE,)), RATE, ground)
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
        return fingerprint_of(self.baseline(task), ground, ground.target(task, seed))

    def spent(self, tasks: Sequence[str]) -> str:
        """Return what the meta-trainings that serve tasks read, in words, those on equal sources once."""
        return " and ".join(dict.fromkeys(self._spent(task) for task in tasks))

    def _spent(self, task: str) -> str:
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
                f"there is no checkpoint of {task}: it is no source, or the preset trains generators through the model "
                "alone; python -m agent.consolidate --preset embedded collects checkpoints, --consolidation DIR names "
                "its folder"
            )
        start, layout = self.lm.fresh_lora(INITIAL_SEED), self.workshop.consolidation.layout
        flat = flatten(start.tensors, layout) + self.workshop.consolidation.average(name)
        tensors = {key: part.clone() for key, part in unflatten(flat, layout).items()}
        return replace(start, tensors=tensors, provenance={"made_by": name})

"""What the jobs of a consolidation take: operations and memory, known from sizes alone.

A frozen model of P weights in products takes 2·P operations a token forward, and as many again for the gradient through
it. The decoder and the Fusion VAE are laid out on torch's meta device, where shapes are known and nothing is computed,
and their products are counted there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from agent.train.generator.presets import Preset
from agent.train.generator.run import Job
from agent.train.generator.variants import variants
from cao.inference.answer_loss import part_tokens
from cao.model.encoder import MAX_TOKENS
from cao.model.profiles import ModelProfile
from tools.align_lora.fusion_vae import FusionVAE
from tools.align_lora.presets import AlignerPreset
from tools.generate_lora.decoder import HyperConvDecoder, Ladder

ENCODER = 10_600_000
"""Weights of the encoder's products."""
ANSWER_TOKENS = 8
"""Tokens of an answer; of a question with all of its choices a third is choices."""
VECTOR_WIDTH = 1024
"""Stands for the model's width in the aligner, where it hardly counts."""
KEPT_FOR_GRADIENT = 2.3
"""Numbers that a layer keeps of a token for the gradient, over the inputs and outputs of its matrices: 2.2 seen with
Qwen2.5-0.5B in bfloat16 (14.1 GB at the most, with 32 questions of some 157 tokens)."""
HEAP = 2.1
"""What a process holds of graphs through the model, over the largest of them: parts of other lengths are other shapes,
and not all that one leaves free is of use to the next. Seen with Qwen2.5-0.5B in float32: 2.1 with questions of all
sources, 1.6 with those of one."""
DECODER_HEAP = 1.25
"""The same of the decoder's graph, which has one shape: 1.22 seen with ``paper-1.5b``, .97 with ``paper-0.5b``."""
ADAMS = 4
"""Numbers a weight that is trained takes: itself, its gradient, and Adam's two averages."""


@dataclass(frozen=True)
class Effort:
    """Operations: through the language model, and in float32 by the parts that are trained; and the bytes held.

    Attributes:
        model: operations in the language model's number format.
        single: operations in float32.
        memory: bytes beside the model's weights.
    """

    model: float = 0.0
    single: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Trained:
    """A part that is trained: its weights, the operations of a forward pass, of one with gradient, and bytes kept."""

    weights: int
    forward: float
    step: float
    kept: float


@cache
def decoder(ladder: Ladder, batch: int) -> Trained:
    """Return what a decoder takes for a batch of conditioning tensors."""
    return _counted(lambda: HyperConvDecoder(ladder), lambda: (torch.empty(batch, *ladder.shapes[0]),))


@cache
def fusion_vae(preset: AlignerPreset, total: int) -> Trained:
    """Return what an aligner takes for the chunks of one step, of an adapter of ``total`` scalars."""
    shape, count = preset.shape(VECTOR_WIDTH, total), preset.chunks_per_step
    return _counted(
        lambda: FusionVAE(shape),
        lambda: (torch.empty(count, shape.chunk), torch.zeros(count, dtype=torch.long), torch.empty(VECTOR_WIDTH)),
    )


def _counted(make: Callable[[], nn.Module], inputs: Callable[[], tuple[Tensor, ...]]) -> Trained:
    with torch.device("meta"):
        module, given = make(), inputs()
    weights = sum(parameter.numel() for parameter in module.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        module(*given)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        return kept.setdefault(id(tensor), tensor)

    with FlopCounterMode(display=False) as whole, torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        sum(made.sum() for made in module(*given)).backward()
    own = {id(parameter) for parameter in module.parameters()}
    held = sum(tensor.nbytes for name, tensor in kept.items() if name not in own)
    return Trained(weights, float(forward.get_total_flops()), float(whole.get_total_flops()), float(held))


@dataclass(frozen=True)
class Efforts:
    """The efforts of a preset's jobs for a base model.

    Attributes:
        preset: sizes and steps.
        base: the model's profile.
        tokens: of a training question as it is read.
        bytes_each: of a number in the model's format.
    """

    preset: Preset
    base: ModelProfile
    tokens: float
    bytes_each: int

    def of(self, job: Job) -> Effort:
        """Return what one job takes."""
        kind, name = job
        if kind == "states":
            return Effort(single=2.0 * ENCODER * MAX_TOKENS * self.preset.prompts_encoded)
        if kind == "checkpoints" or (kind == "union" and self.preset.generator.reconstruction > 0):
            return self._collecting()
        return self._aligner() if kind == "aligner" else self._generator(name, alone=kind == "union")

    @property
    def scalars(self) -> int:
        """D, scalars of an adapter."""
        return self.base.adapter * self.base.lora_rank

    def _read(self, questions: float, *, gradient: bool) -> float:
        """Return the operations of reading questions with their answers, and of the gradient."""
        answered = self.tokens / 3 if self.preset.generator.choices else ANSWER_TOKENS
        each = 2.0 * (self.base.trunk * self.tokens + self.base.head * answered)
        return questions * each * (2 if gradient else 1)

    def _graph(self, questions: float) -> float:
        """Return the bytes of a graph through the model over some questions."""
        answered = self.tokens / 3 if self.preset.generator.choices else ANSWER_TOKENS
        vocabulary = self.base.head / max(1, VECTOR_WIDTH)
        kept = KEPT_FOR_GRADIENT * self.base.adapter * self.tokens * self.bytes_each
        return questions * (kept + 12 * vocabulary * answered)

    def _collecting(self) -> Effort:
        preset = self.preset.checkpoints
        residuals = 2.0 * preset.kept_steps * self.scalars
        model = preset.steps * self._read(preset.batch, gradient=True)
        graph = self._graph(min(float(preset.batch), max(1.0, part_tokens(self.base.adapter) / self.tokens)))
        return Effort(model=model, memory=residuals + 4 * ADAMS * self.scalars + HEAP * graph)

    def _generator(self, name: str, *, alone: bool) -> Effort:
        preset, whole = self.preset.generator, self.preset
        sources = next(len(each.sources) for each in variants(whole) if each.name == name)
        tasks = min(preset.tasks, sources)
        made = decoder(whole.ladder, tasks)
        passes = 1 + (preset.contrast > 0 and not alone) / preset.contrast_every
        through = preset.through_model
        model = through * self._read(tasks * passes * preset.batch, gradient=True)
        if not alone:
            model += 2 * self._read(sources * whole.validated, gradient=False)
        residuals = 2.0 * sources * whole.checkpoints.kept_steps * self.scalars if preset.reconstruction > 0 else 0.0
        memory = 4.0 * ADAMS * made.weights + DECODER_HEAP * made.kept + residuals + 8.0 * tasks * self.scalars
        if through:
            return Effort(model, preset.steps * made.step, memory + self._graph(preset.batch))
        beside = memory - self.bytes_each * self.base.parameters  # the model is not held while nothing goes through it
        return Effort(model, preset.steps * made.step, max(beside, 4.0 * made.weights + residuals))

    def _aligner(self) -> Effort:
        preset, gains, aligner = self.preset, self.preset.gains, self.preset.aligner
        generated = len(preset.sources) * preset.pairs
        made = decoder(preset.ladder, 1)
        prompts = gains.vector_prompts if gains else aligner.vector_prompts
        model, single = 2 * self._read(generated * prompts, gradient=False), generated * made.forward
        memory = 4.0 * (made.weights + generated * self.scalars)
        if gains:
            model += gains.steps * self._read(gains.tasks * gains.batch, gradient=True)
            return Effort(model, single, memory + self._graph(gains.batch))
        vae = fusion_vae(aligner, self.scalars)
        single += 2 * aligner.meta_epochs * vae.step
        return Effort(model, single, memory + 4.0 * (ADAMS + 2) * vae.weights + vae.kept)

"""One step of a generator's training: Eq. 1, the loss through the frozen model, and the contrast between prompts.

Eq. 1 asks for weights like the checkpoints'. The loss through the model asks for what the weights are for: the residual
goes into the live LoRA parameters of the frozen model, the loss is differentiated by them, and that gradient is handed
on to the generator, so that neither graph has to hold the other. The contrast asks that a task's own prompts serve it
better than another task's.

Source: CAO-LLM §2.2, Eq. 1; the rest is this project's (Text-to-LoRA trains through the model).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cao.inference.answer_loss import answer_loss
from cao.inference.choice_loss import ChoiceRow, choice_loss
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.sources import GeneratorPreset, Source, draw
from tools.generate_lora.statistics import Statistics
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

Questions = Sequence[Row] | Sequence[ChoiceRow]


@dataclass(frozen=True)
class Trainer:
    """What every step of one training works with.

    Attributes:
        generator: what is trained.
        sources: the tasks.
        lm: the frozen model, with trainable parameters; None where no step goes through it.
        live: those parameters, by their PEFT names; they are overwritten.
        optimizer: over the generator's parameters.
        statistics: of the sources' checkpoints, which stay where the generator's own centre moves; None where Eq. 1
            weighs nothing.
        preset: weights and sizes.
    """

    generator: TrainedGenerator
    sources: Sequence[Source]
    lm: LanguageModel | None
    live: dict[str, Tensor] = field(repr=False)
    optimizer: torch.optim.Optimizer
    statistics: Statistics | None
    preset: GeneratorPreset

    def step(self, step: int, rng: random.Random) -> tuple[float, float]:
        """Take one optimiser step and return its two losses: Eq. 1's and the one through the model (0 without).

        Gradients are to be none before it, and are left behind it.

        Args:
            step: its number, from 0.
            rng: draws tasks, prompts and questions.
        """
        preset, generator = self.preset, self.generator
        chosen = rng.sample(self.sources, min(preset.tasks, len(self.sources)))
        drawn = [draw(source, generator, preset, rng) for source in chosen]
        tensors = torch.stack([tensor for tensor, _ in drawn]).to(generator.device)
        masks = torch.stack([mask for _, mask in drawn]).to(generator.device)
        residual, reconstruction = self._decoded(tensors, masks, chosen, rng)
        total, loss = preset.reconstruction * reconstruction, 0.0
        if step >= preset.behaviour_from:
            loss, slopes = self._through_model(residual.detach(), chosen, rng, contrast=self._contrasts(step, masks))
            total = total + (residual * slopes).sum()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
        self.optimizer.step()
        return float(reconstruction.detach()), loss

    def _decoded(
        self, tensors: Tensor, masks: Tensor, chosen: Sequence[Source], rng: random.Random
    ) -> tuple[Tensor, Tensor]:
        """Return the residuals (B, layers, D_l) and Eq. 1's loss in normalised units."""
        generator, statistics = self.generator, self.statistics
        if generator.core is None:
            normal, own = generator(tensors * masks.unsqueeze(-1))
            residual = generator.statistics.restore(normal, own)
        else:
            residual = generator.residual(tensors, masks)
            normal, own = residual, residual[..., :0]
            if statistics is not None:
                normal = (residual - statistics.centre) / statistics.scale
        if statistics is None or self.preset.reconstruction == 0:
            return residual, residual.new_zeros(())
        targets = [s.residuals[rng.randrange(len(s.residuals))].to(generator.device).float() for s in chosen]
        with torch.no_grad():
            goals = [statistics.normalise(target) for target in targets]
        loss = (normal - torch.stack([goal for goal, _ in goals])).square().mean()
        if own.shape[-1]:
            loss = loss + (own - torch.stack([goal for _, goal in goals])).square().mean()
        return residual, loss

    def _contrasts(self, step: int, masks: Tensor) -> bool:
        """Return whether a step compares prompts: where it is due, and all of its tasks have some."""
        due = self.preset.contrast > 0 and step % self.preset.contrast_every == 0
        return due and len(masks) > 1 and bool(masks.flatten(1).any(1).all())

    def _through_model(
        self, residual: Tensor, chosen: Sequence[Source], rng: random.Random, *, contrast: bool
    ) -> tuple[float, Tensor]:
        """Return the mean loss through the model, and its gradient by the residuals, contrast included."""
        preset, n = self.preset, len(chosen)
        mean, slopes = 0.0, torch.zeros_like(residual)
        for i, source in enumerate(chosen):
            questions = neighbours(source.questions if preset.choices else source.rows, preset.batch, rng)
            loss, slope = self._behaviour(residual[i], questions)
            mean += loss / n
            slopes[i] += slope / n
            if contrast:
                other = (i + 1) % n
                foreign, away = self._behaviour(residual[other], questions)
                if loss + preset.margin > foreign:
                    slopes[i] += preset.contrast * slope / n
                    slopes[other] -= preset.contrast * away / n
        return mean, slopes

    def _behaviour(self, residual: Tensor, questions: Questions) -> tuple[float, Tensor]:
        assert self.lm is not None
        flat = self.generator.origin + residual
        return behaviour(self.lm, self.live, self.generator.layout, flat, questions, self.preset)


def behaviour(
    lm: LanguageModel,
    live: dict[str, Tensor],
    layout: TokenLayout,
    flat: Tensor,
    questions: Questions,
    preset: GeneratorPreset,
) -> tuple[float, Tensor]:
    """Return the loss through the model under an adapter, and its gradient by the adapter's scalars.

    Args:
        lm: the frozen model, with trainable parameters.
        live: those parameters, by their PEFT names; they are overwritten.
        layout: the order of an adapter's scalars.
        flat: (layers, D_l) adapter, A and B.
        questions: with all of their choices, or with the gold answer alone.
        preset: for the loss's weights.

    Returns:
        The loss in nats, and (layers, D_l) float32.
    """
    with torch.no_grad():
        for name, value in unflatten(flat, layout).items():
            live[name].copy_(value)
            live[name].grad = None
    loss = question_loss(lm, questions, preset, gradient=True)
    loss.backward()  # type: ignore[no-untyped-call]
    slopes = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in live.items()}
    return float(loss.detach()), flatten(slopes, layout)


def question_loss(lm: LanguageModel, questions: Questions, preset: GeneratorPreset, *, gradient: bool) -> Tensor:
    """Return the weighted loss of questions under the model as it is dressed, nats.

    Args:
        lm: the model.
        questions: with all of their choices, or with the gold answer alone.
        preset: for the weights.
        gradient: whether a graph is built.
    """
    whole = [each for each in questions if isinstance(each, ChoiceRow)]
    if not whole:
        return preset.answers * answer_loss(
            lm, [each for each in questions if isinstance(each, Row)], gradient=gradient
        )
    nll, chosen = choice_loss(lm, whole, gradient=gradient)
    return preset.answers * nll + preset.choices * chosen


def neighbours(rows: Questions, count: int, rng: random.Random) -> Questions:
    """Return neighbours among rows that are sorted by length, so that little is padding."""
    start = rng.randrange(max(1, len(rows) - count + 1))
    return rows[start : start + count]

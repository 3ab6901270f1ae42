"""What a baseline reads by its own settings, where no budget bounds it: what a plan is reckoned from.

It stands apart from the baselines, so that a better reckoning leaves what they have made as it is.
"""

from dataclasses import dataclass
from statistics import fmean

from eval.baselines.abmll.method import AbmllSettings
from eval.baselines.baseline import Baseline
from eval.baselines.cell import prepares
from eval.baselines.labelled_lora import LabelledSettings
from eval.baselines.maml import MamlSettings
from eval.baselines.objective import Objective
from eval.baselines.seal.method import SealSettings
from eval.baselines.seal.recipe import CHOICES
from eval.baselines.serl.method import SerlSettings
from eval.baselines.text_to_lora import TextSettings
from eval.policies.labelled_lora import HELD_BACK
from tools.generate_lora.checkpoints import CheckpointPreset

ANSWERS = Objective()
"""The gold answer's text alone."""


@dataclass(frozen=True)
class Reading:
    """What a training reads and writes; a question counts as often as it is read.

    Attributes:
        preparing: questions of the sources.
        adapting: questions of the target.
        written: tokens that the model writes on the target.
        objective: by which a question is read.
    """

    preparing: int = 0
    adapting: int = 0
    written: int = 0
    objective: Objective = ANSWERS


def reading(baseline: Baseline, pooled: int, labelled: int, answer: int) -> Reading:
    """Return about what a baseline reads; nothing where it trains on nothing.

    Args:
        baseline: with its hyper-parameters.
        pooled: train questions of all its sources.
        labelled: questions of the target's reward part.
        answer: tokens of a written answer to the target's questions, at most.
    """
    match baseline.settings():
        case CheckpointPreset() as hyper:
            whole = hyper.questions
            return Reading(preparing=whole) if prepares(type(baseline)) else Reading(adapting=whole)
        case MamlSettings() as hyper:
            steps = _steps(hyper.epochs * -(-pooled // hyper.batch), hyper.extent.steps)
            meta = steps * (hyper.inner_steps + 1) * hyper.batch
            return Reading(meta, hyper.testing.steps * hyper.support, objective=hyper.objective)
        case AbmllSettings() as hyper:
            a_step = (hyper.inner_steps + hyper.outer_batches) * hyper.batch
            steps = _steps(-(-hyper.epochs * pooled // a_step), hyper.extent.steps)
            return Reading(steps * a_step, hyper.testing.steps * hyper.batch, objective=hyper.objective)
        case TextSettings(preset=preset):
            passes = 1 + (1 / preset.contrast_every if preset.contrast else 0)
            asked = round(preset.steps * preset.tasks * preset.batch * passes)
            return Reading(asked, objective=Objective(answers=preset.answers, choices=preset.choices))
        case SealSettings() as hyper:
            one = round(fmean(CHOICES["epochs"]) * hyper.support)
            tried = hyper.iterations * hyper.sources * hyper.samples * (one + hyper.held)
            return Reading(tried, one, objective=hyper.objective)
        case SerlSettings() as hyper:
            wanted = hyper.rounds * hyper.writing.wanted
            answers = wanted * hyper.reinforcing.samples
            return Reading(adapting=answers, written=wanted * hyper.writing.max_tokens + answers * answer)
        case LabelledSettings(recipe=recipe):
            learnt = labelled - labelled // HELD_BACK
            return Reading(adapting=recipe.epochs * (len(recipe.rates) * learnt + labelled))  # at most
    return Reading()


def _steps(by_epochs: int, most: int) -> int:
    """Return the steps of whichever ends first; 0 stands for no limit."""
    return min((one for one in (by_epochs, most) if one), default=0)

"""What a model costs to serve, in the reward's own unit: a costlier one must gain more before it is accepted.

The price is ours: ``per_doubling`` nats of log-loss for every doubling of what a question costs, and as much again
where the model before could be handed over as one adapter folder and this one cannot.
"""

import math

from cao.strategies.calibrate import PRIOR_TIMES
from cao.strategies.tts import ROUTED_TIMES
from cao.types import AdaptedModel, AnswerRule

SLOT_STEP = 0.1
"""Forward passes that one of Latent's steps costs: it multiplies the head alone."""


def passes(model: AdaptedModel, *, same_choices: bool = False) -> float:
    """Return what a question costs, in forward passes of one model.

    Args:
        model: that answers.
        same_choices: whether every question has the same choices, whose priors are then read once.
    """
    members = ROUTED_TIMES if model.centroids else float(len(model.members))
    read = model.answer_rule.prior == "choice" and not same_choices
    return members * (1.0 + SLOT_STEP * model.latent.slot_steps if model.latent else 1.0) + PRIOR_TIMES * read * members


def has_folder(model: AdaptedModel) -> bool:
    """Return whether the base model with one adapter folder, or with none, is all that it takes."""
    return len(model.members) == 1 and model.latent is None and model.answer_rule == AnswerRule()


def serving_price(
    candidate: AdaptedModel,
    best: AdaptedModel,
    per_doubling: float,
    *,
    transductive: bool = False,
    best_transductive: bool = False,
    same_choices: bool = False,
) -> float:
    """Return what a candidate must gain besides, nats or a share of the questions; 0 for one that costs no more.

    Args:
        candidate: the model that would be served.
        best: the model that it would replace.
        per_doubling: for twice the cost, nats or a share of the questions.
        transductive: whether the candidate is made anew for each set of questions, so that no folder of it serves.
        best_transductive: whether that was so of the best already, which then has no folder to lose.
        same_choices: as in ``passes``.
    """
    now = passes(candidate, same_choices=same_choices)
    doublings = max(0.0, math.log2(now / passes(best, same_choices=same_choices)))
    lost = has_folder(best) and not best_transductive and (transductive or not has_folder(candidate))
    return per_doubling * (doublings + lost)

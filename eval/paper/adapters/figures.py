"""Figures 3 to 5: ΔW of a middle layer, signatures, and how alike aligned adapters and the aligner's latents are.

One generator serves all tasks here, so that what differs between adapters comes from the prompts alone. Where tasks
were among its sources the page says so.

Axis letters: T tasks, S seeds, L layers.

Source: CAO-LLM Figures 3 to 5, B.3, B.4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cao.errors import CaoError, NotApplicableError, UnavailableError
from cao.model.adapters import LoraWeights
from cao.model.cosines import Array, cosines, gram
from cao.progress import Progress
from eval.generation.cosines import centred
from eval.options import TablesOptions
from eval.paper.adapters.results import FiguresResult, Matrix, Similarity
from eval.paper.adapters.sizes import delta, place_of, pooled, signature
from eval.paper.adapters.stock import ALIGNED, GENERATED, TITLES, Conditioned, Stock
from eval.paper.adapters.verdicts import near_zero
from tools import pretrained
from tools.align_lora.aligner import ChunkAligner, GainAligner
from tools.align_lora.fusion_vae import cut_chunks
from tools.align_lora.gains import features_of
from tools.generate_lora.tokens import flatten

MODULE = "q_proj"
SIDE = 32
"""Rows and columns of a drawn ΔW, at most."""
SHOWN = ("gsm8k", "medqa", "social_iqa")
"""Tasks whose ΔW is drawn, where they are measured; else the first three."""
LATENT = "latent"


def result(
    setting: Mapping[str, object], stock: Stock, options: TablesOptions, tasks: Sequence[str], progress: Progress
) -> FiguresResult:
    """Measure what the figures are drawn from; arguments as in ``table3.result``.

    Raises:
        UnavailableError: no generator was trained for this model, or none of the tasks is at hand.
    """
    stock = replace(stock, variant=pretrained.FULL)
    made, missing = _made(stock, tasks, options.seeds, progress)
    if not made:
        raise UnavailableError(next(iter(missing.values())))
    first = next(iter(made))
    sources, generator = stock.trained(first).sources, stock.generator(first)
    similarities, absent = {GENERATED: similarity(TITLES[GENERATED], made)}, dict[str, str]()
    aligned, why = _aligned(stock, list(made), options.seeds, progress)
    if aligned:
        similarities[ALIGNED] = similarity(TITLES[ALIGNED], _weights(aligned))
        similarities[LATENT] = latents(aligned)
    else:
        absent |= {ALIGNED: why, LATENT: why}
    judged = similarities.get(ALIGNED)
    return FiguresResult.model_validate(
        {
            **setting,
            "generators": {pretrained.FULL: generator.sha256},
            "variant": pretrained.FULL,
            "seen": tuple(task for task in made if task in sources),
            "missing": missing,
            **_heat(made),
            **_signatures(made),
            "similarities": similarities,
            "absent": absent,
            "verdicts": (near_zero(judged, why, str(setting["command"])),),
        }
    )


Made = dict[str, list[LoraWeights]]
"""Task → its adapter of each seed."""


def _made(stock: Stock, tasks: Sequence[str], seeds: Sequence[int], progress: Progress) -> tuple[Made, dict[str, str]]:
    """Return the generated adapters of the tasks that have them, and why others have none."""
    made, missing = Made(), dict[str, str]()
    for done, task in enumerate(tasks, 1):
        try:
            made[task] = [stock.make(GENERATED, task, seed) for seed in seeds]
        except (NotApplicableError, UnavailableError) as error:
            missing[task] = str(error)
        progress(f"adapters, {TITLES[GENERATED]}", done, len(tasks))
    return made, missing


def _aligned(
    stock: Stock, tasks: Sequence[str], seeds: Sequence[int], progress: Progress
) -> tuple[dict[str, list[Conditioned]], str]:
    """Return what the aligner is given for each task, and why nothing where there is no aligner."""
    found: dict[str, list[Conditioned]] = {}
    for done, task in enumerate(tasks, 1):
        try:
            found[task] = [stock.condition(task, seed) for seed in seeds]
        except CaoError as error:
            return {}, str(error)
        progress("task vectors", done, len(tasks))
    return found, ""


def _weights(aligned: Mapping[str, Sequence[Conditioned]]) -> Made:
    return {task: [each.aligner.align(each.weights, each.vector) for each in some] for task, some in aligned.items()}


# similarities --------------------------------------------------------------------------------------------------------


def similarity(title: str, made: Made) -> Similarity:
    """Return how alike the adapters of tasks are, mean over seeds."""
    seeds = range(len(next(iter(made.values()))))
    return _similarity(title, tuple(made), [gram([each[place] for each in made.values()]) for place in seeds])


def latents(aligned: Mapping[str, Sequence[Conditioned]]) -> Similarity:
    """Return how alike the aligner's latents μ of tasks are, mean over seeds."""
    seeds = range(len(next(iter(aligned.values()))))
    every = [np.stack([latent(each[place]).double().numpy() for each in aligned.values()]) for place in seeds]
    return _similarity("the aligner's latents μ", tuple(aligned), [some @ some.T for some in every])


def _similarity(title: str, tasks: tuple[str, ...], each: Sequence[Array]) -> Similarity:
    whole = np.mean([cosines(products) for products in each], axis=0)
    less = np.mean([cosines(centred(products)) for products in each], axis=0)
    length = float(np.mean([np.sqrt(np.diag(products).clip(min=0)).mean() for products in each]))
    return Similarity(
        title=title, tasks=tasks, whole=_matrix(whole), centred=_matrix(less), length=float(f"{length:.4g}")
    )


@torch.no_grad()
def latent(given: Conditioned) -> Tensor:
    """Return the mean of q(z | adapter, condition) that the aligner decodes, (k,); of all chunks one after another."""
    aligner, weights = given.aligner, flatten(given.weights.tensors, given.aligner.layout)
    condition = aligner.standardise(given.vector.to(aligner.mean.device, torch.float32))
    if isinstance(aligner, GainAligner):
        features = features_of(weights.to(aligner.shared.device), aligner.shared, aligner.layout)
        mean: Tensor = aligner.vae(features, condition)[1]
        return mean.cpu()
    assert isinstance(aligner, ChunkAligner), type(aligner)
    residual = weights - flatten(aligner.initial.tensors, aligner.layout)
    scaled = residual.to(aligner.scale.device) / aligner.scale.unsqueeze(1)
    chunks, _ = cut_chunks(scaled, aligner.vae.shape.chunk)
    which = torch.arange(len(chunks), device=chunks.device)
    return aligner.vae.encode(chunks, which, condition)[0].flatten().cpu()


# ΔW and signatures ---------------------------------------------------------------------------------------------------


def _heat(made: Made) -> dict[str, object]:
    """Return ΔW of a middle layer: the mean over tasks, and how some tasks depart from it; first seed."""
    first = {task: each[0] for task, each in made.items()}
    one = next(iter(first.values()))
    modules = [module for module in one.modules() if place_of(module)[1] == MODULE] or one.modules()
    layers = sorted({place_of(module)[0] for module in modules})
    middle = layers[len(layers) // 2]
    module = next(each for each in modules if place_of(each)[0] == middle)
    changes = {task: delta(weights, module) for task, weights in first.items()}
    mean = torch.stack(list(changes.values())).mean(0)
    shown = [task for task in SHOWN if task in changes] or list(changes)[:3]
    return {
        "layer": (middle, len(layers)),
        "module": place_of(module)[1],
        "block": tuple(max(1, -(-length // SIDE)) for length in mean.shape),
        "mean": _pooled(mean),
        "departures": {task: _pooled(changes[task] - mean) for task in shown},
    }


def _pooled(change: Tensor) -> Matrix:
    return tuple(tuple(float(f"{value:.3g}") for value in line) for line in pooled(change, SIDE).tolist())


def _signatures(made: Made) -> dict[str, object]:
    """Return the norms of ΔW layer by layer: the mean over tasks and seeds, and their spread between tasks."""
    each = [[signature(weights) for weights in seeds] for seeds in made.values()]
    mean, varying = dict[str, tuple[float, ...]](), dict[str, tuple[float, ...]]()
    for name in each[0][0]:
        norms = np.array([[one[name] for one in seeds] for seeds in each])  # (T, S, L)
        of_tasks = norms.mean(1)
        middle = of_tasks.mean(0)
        mean[name] = _short(middle)
        varying[name] = _short(np.divide(of_tasks.std(0), middle, out=np.zeros_like(middle), where=middle > 0))
    return {"signature": mean, "varying": varying}


def _short(values: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)


def _matrix(values: Array) -> Matrix:
    return tuple(tuple(round(float(value), 4) for value in line) for line in values)

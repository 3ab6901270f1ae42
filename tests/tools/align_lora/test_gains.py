"""The gain aligner: what two numbers do to a module by hand, its training through the model, and its file."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.inference.choice_loss import choice_loss, choice_rows
from cao.model.adapters import adapter_sha256
from cao.model.language_model import LanguageModel
from tests.tools.tiny_training import TASKS, layout_of
from tools.align_lora.aligner import GainAligner
from tools.align_lora.aligner_file import load_aligner
from tools.align_lora.gain_training import AnsweredTask, train_gain_aligner
from tools.align_lora.gains import GainShape, GainVAE, features_of, moved, slices
from tools.align_lora.presets import GainPreset
from tools.align_lora.task_vector import condition, mean_state, task_vector
from tools.generate_lora.sources import GeneratorPreset
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

A, B = "base_model.model.layers.0.q_proj", "base_model.model.layers.0.v_proj"
SMALL = TokenLayout.of({A: (2, 3), B: (1, 3)}, 1, 2, (1, 4))
LOSS = GeneratorPreset(steps=1, reconstruction=0.0, answers=0.0, choices=1.0)
PRESET = GainPreset(hidden=8, latent=4, steps=30, tasks=2, batch=6, rate=3e-2, vector_prompts=2)
WIDTH = 64


def numbers(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs)[None]


def test_a_module_moves_towards_the_shared_one_and_its_change_is_scaled() -> None:
    adapter = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 1.0, 1.0, 6.0]])
    shared = torch.tensor([[3.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0]])
    half = unflatten(moved(adapter, shared, numbers((0.5, 0.0), (0.0, 0.5)), SMALL), SMALL)
    assert half[f"{A}.lora_A.weight"].tolist() == [[2.0, 2.0, 2.0]]
    assert half[f"{A}.lora_B.weight"].flatten().tolist() == [2.0, 3.0]
    change = half[f"{B}.lora_B.weight"] @ half[f"{B}.lora_A.weight"]
    assert change.tolist() == [[9.0, 9.0, 9.0]]  # 1.5 times 6·(1, 1, 1)
    assert torch.equal(moved(adapter, shared, numbers((0, 0), (0, 0)), SMALL), adapter)
    whole = moved(adapter, shared, numbers((1, 0), (1, 0)), SMALL)
    assert torch.equal(whole, shared)


def test_the_features_are_distances_and_sizes_of_modules() -> None:
    shared = torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]])
    adapter = torch.tensor([[3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]])
    found = features_of(adapter, shared, SMALL)
    assert found[0, 0].tolist() == pytest.approx([math.log(2), math.log(1 + math.sqrt(50))])
    assert found[0, 1].tolist() == pytest.approx([0.0, math.log(3)])
    assert [place.stop - place.start for place in slices(SMALL)] == [5, 4]


def taught(lm: LanguageModel, steps: int) -> Tensor:
    """An adapter that was trained on both tasks, (layers, D_l)."""
    rows, layout = [choice_rows(lm, task, task.load(), 128) for task in TASKS.values()], layout_of(lm)
    with lm.adapted(lm.fresh_lora(0), trainable=True) as live:
        optimizer = torch.optim.AdamW(list(live.values()), lr=3e-2)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.stack([choice_loss(lm, mine, gradient=True)[1] for mine in rows]).sum().backward()
            optimizer.step()
        return flatten({name: value.detach().clone() for name, value in live.items()}, layout)


def tasks_of(lm: LanguageModel, *, harmed: float, steps: int = 0) -> list[AnsweredTask]:
    """Two tasks whose adapters are the shared one with noise on top: moving back is what helps."""
    found, shared = list[AnsweredTask](), taught(lm, steps)
    for seed, (name, task) in enumerate(TASKS.items()):
        generator = torch.Generator().manual_seed(seed)
        noise = harmed * torch.randn(2, *shared.shape, generator=generator)
        conditions = torch.randn(2, WIDTH, generator=generator)
        questions = choice_rows(lm, task, task.load(), 128)
        found.append(AnsweredTask(name, shared + noise, shared, conditions, questions))
    return found


def train(
    lm: LanguageModel, tasks: list[AnsweredTask], **options: object
) -> tuple[GainAligner, list[tuple[float, float]]]:
    given = {"preset": PRESET, "loss": LOSS, "shared": tasks[0].shared, "seed": 3, "generator_sha256": "a" * 64}
    return train_gain_aligner(tasks, lm, layout_of(lm), lm.fresh_lora(0), **(given | options))  # type: ignore[arg-type]


def test_before_training_it_changes_nothing_and_training_lowers_the_loss(tiny_lm: LanguageModel) -> None:
    tasks = tasks_of(tiny_lm, harmed=0.1, steps=30)
    aligner, curve = train(tiny_lm, tasks, preset=PRESET.model_copy(update={"batch": 100, "steps": 40}))
    assert sum(loss for loss, _ in curve[-5:]) < 0.8 * sum(loss for loss, _ in curve[:5])
    assert all(kl >= 0 for _, kl in curve)
    layout = layout_of(tiny_lm)
    shape = GainShape(layout.layers, len(layout.modules), WIDTH, 8, 4)
    fresh, _, _ = GainVAE(shape)(features_of(tasks[0].adapters[0], tasks[0].shared, layout), tasks[0].conditions[0])
    assert not fresh.any()
    assert aligner.reads_base_state


def test_it_is_written_and_read_to_the_same_adapters_and_refused_where_it_does_not_fit(
    tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    tasks = tasks_of(tiny_lm, harmed=0.1)
    aligner, _ = train(tiny_lm, tasks, preset=PRESET.model_copy(update={"steps": 3}))
    path, layout, initial = tmp_path / "aligner.safetensors", layout_of(tiny_lm), tiny_lm.fresh_lora(0)
    aligner.save(path)
    read = load_aligner(path, layout, initial, generator_sha256="a" * 64)
    assert read.sha256 == aligner.sha256
    weights = tiny_lm.fresh_lora(0)
    vector = tasks[0].conditions[0]
    one, two = (load_aligner(path, layout, initial).align(weights, vector) for _ in range(2))
    assert adapter_sha256(one) == adapter_sha256(two)
    with pytest.raises(InputError, match="task vector has shape"):
        read.align(weights, vector[:5])
    with pytest.raises(InputError, match="made for generator"):
        load_aligner(path, layout, initial, generator_sha256="b" * 64)
    with pytest.raises(InputError, match="not the sizes of a gain VAE"):
        GainShape(0, 7, 3, 3, 3)


def test_a_killed_training_goes_on_to_the_same_bits(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    tasks, seen = tasks_of(tiny_lm, harmed=0.5), list[int]()
    short = PRESET.model_copy(update={"steps": 4})
    whole, curve = train(tiny_lm, tasks, preset=short)

    def kill(label: str, done: int, total: int) -> None:
        seen.append(done)
        if done == 2 and len(seen) == 2:
            raise KeyboardInterrupt

    options = {"preset": short, "checkpoint": tmp_path / "x.partial", "checkpoint_every_s": 0.0, "progress": kill}
    with pytest.raises(KeyboardInterrupt):
        train(tiny_lm, tasks, **options)
    resumed, again = train(tiny_lm, tasks, **options)
    assert (seen, again) == ([1, 2, 3, 4], curve)
    assert resumed.sha256 == whole.sha256


def test_what_cannot_be_trained_on_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="one source task or more"):
        train_gain_aligner([], tiny_lm, layout_of(tiny_lm), tiny_lm.fresh_lora(0), preset=PRESET, loss=LOSS,
                           shared=torch.zeros(1), seed=0, generator_sha256="")  # fmt: skip
    tasks = tasks_of(tiny_lm, harmed=float("nan"))
    with pytest.raises(InputError, match="animals: holds values that are not finite"):
        train(tiny_lm, tasks)


def test_the_condition_is_the_task_vector_and_for_some_the_base_models_state(tiny_lm: LanguageModel) -> None:
    adapter = tiny_lm.fresh_lora(0)
    adapter.tensors.update({name: torch.full_like(value, 0.02) for name, value in adapter.tensors.items()})
    prompts = ["which of them is it?", "and now?"]
    vector = task_vector(tiny_lm, adapter, prompts, 2)
    assert torch.equal(condition(tiny_lm, adapter, prompts, 2, with_base_state=False), vector)
    both = condition(tiny_lm, adapter, prompts, 2, with_base_state=True)
    assert torch.equal(both, torch.cat([vector, mean_state(tiny_lm, prompts, 2)]))

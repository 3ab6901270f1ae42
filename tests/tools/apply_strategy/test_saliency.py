"""TTL on some layers or modules, and with DoRA: by hand, and by what stays as it was."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cao.model.adapters import MAGNITUDE, adapter_sha256, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.lora_layers import magnitudes
from cao.model.packing import packed_hidden
from cao.model.start_adapter import attach_adapter
from tests.tools.apply_strategy.test_ttl import PROMPTS, moved, settings
from tools.apply_strategy.saliency import group_of, most_salient, pick, saliencies
from tools.apply_strategy.ttl import train_ttl


def name(layer: int, module: str, side: str) -> str:
    return f"base_model.model.model.layers.{layer}.{module}.lora_{side}.weight"


def test_saliency_is_the_mean_square_of_a_groups_gradient_by_hand() -> None:
    gradients: dict[str, Tensor | None] = {
        name(0, "self_attn.q_proj", "A"): torch.tensor([[3.0, 4.0]]),  # 25 over 2
        name(0, "self_attn.q_proj", "B"): torch.tensor([[1.0], [1.0]]),  # and 2 over 2: 27/4
        name(0, "mlp.up_proj", "B"): torch.tensor([[2.0], [2.0], [2.0], [2.0]]),  # 16/4; the layer: 43/8
        name(1, "self_attn.q_proj", "B"): torch.tensor([[2.0], [3.0]]),  # 13/2
        name(1, "mlp.up_proj", "B"): None,
    }
    layers, modules = saliencies(gradients, "layers"), saliencies(gradients, "modules")
    assert list(layers.values()) == [43 / 8, 13 / 2]
    assert list(modules.values()) == [27 / 4, 16 / 4, 13 / 2, 0]
    assert most_salient(layers, 0.25) == ["base_model.model.model.layers.1"]
    assert [group.split("layers.")[1] for group in most_salient(modules, 0.5)] == [
        "0.self_attn.q_proj",
        "1.self_attn.q_proj",
    ]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.floats(0.02, 1))
def test_the_share_is_kept_and_of_equals_the_first_are_chosen(values: list[int], share: float) -> None:
    saliency = {str(i): float(value) for i, value in enumerate(values)}
    chosen = most_salient(saliency, share)
    assert 1 <= len(chosen) <= len(values)
    assert len(chosen) - 1 < share * len(values) + 1e-6
    assert chosen == sorted(chosen, key=int)
    left = [group for group in saliency if group not in chosen]
    assert all((saliency[a], -int(a)) > (saliency[b], -int(b)) for a in chosen for b in left)


@pytest.mark.parametrize("subset", ["layers", "modules"])
def test_only_the_picked_groups_move_and_a_kill_changes_nothing(
    tiny_lm: LanguageModel, tmp_path: Path, subset: str
) -> None:
    tiny_lm.model = tiny_lm.model.float()
    start, chosen, file = moved(tiny_lm), settings(subset=subset, share=0.3), tmp_path / "ttl.safetensors"
    whole = train_ttl(tiny_lm, PROMPTS, chosen, start, 5)
    changed = {n for n, tensor in whole.tensors.items() if not torch.equal(tensor, start.tensors[n])}
    groups = dict.fromkeys(group_of(n, chosen.subset) for n in start.tensors)
    moved_groups = {group_of(n, chosen.subset) for n in changed}
    assert len(moved_groups) == -(-3 * len(groups) // 10)
    assert f"{len(moved_groups)} of {len(groups)} {subset} trained" in whole.provenance["picked"]
    rows = [tiny_lm.encode(prompt) for prompt in PROMPTS]
    with tiny_lm.adapted(start, trainable=True) as live:
        mask = pick(tiny_lm, rows, live, chosen.subset, 1.0)
        assert all(mask.values())
        assert all(parameter.grad is None for parameter in live.values())

    def kill(label: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ttl(tiny_lm, PROMPTS, chosen, start, 5, progress=kill, checkpoint=file, checkpoint_every_s=0)
    resumed = train_ttl(tiny_lm, PROMPTS, chosen, start, 5, checkpoint=file)
    assert adapter_sha256(resumed) == adapter_sha256(whole)


def test_magnitudes_by_hand() -> None:
    weight, down, up = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0], [0.0]])
    assert magnitudes(weight, down, up, 1.0).tolist() == pytest.approx([13**0.5, 2.0])  # rows (3, 2) and (0, 2)


def hidden(lm: LanguageModel, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The last hidden states of the packed path, and of the library one row at a time."""
    with torch.no_grad():
        packed = packed_hidden(lm, rows)
        plain = [lm.trunk(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
    return packed.float(), torch.cat(plain).float()


def test_dora_starts_as_the_adapter_and_is_peft_to_the_file(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    import peft

    tiny_lm.model = tiny_lm.model.float()
    rows = [tiny_lm.encode(prompt) for prompt in PROMPTS[:3]]
    start = moved(tiny_lm)
    dora = tiny_lm.as_dora(start)
    assert (start.dora, dora.dora, tiny_lm.as_dora(dora) is not None) == (False, True, True)
    with tiny_lm.adapted(start):
        before = hidden(tiny_lm, rows)[0]
    with tiny_lm.adapted(dora):
        packed, plain = hidden(tiny_lm, rows)
    assert torch.allclose(packed, before, atol=2e-5)
    assert torch.allclose(packed, plain, atol=2e-5)
    trained = train_ttl(tiny_lm, PROMPTS, settings(learning_rate=1e-2), dora, 3)
    assert any(not torch.equal(trained.tensors[n], dora.tensors[n]) for n in dora.tensors if n.endswith(MAGNITUDE))
    kept = save_adapter(tmp_path, trained, "base")
    read = load_adapter(Path(kept.path), tiny_lm.sha256)
    assert adapter_sha256(read) == kept.sha256
    with tiny_lm.adapted(read):
        ours = hidden(tiny_lm, rows)[0]
    theirs = peft.PeftModel.from_pretrained(tiny_lm.model, kept.path).eval()
    assert torch.allclose(hidden(tiny_lm, rows)[1], ours, atol=2e-5)
    theirs.unload()


def test_a_dora_folder_that_is_deployed_is_merged_as_before(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    tiny_lm.model = tiny_lm.model.float()
    kept = save_adapter(tmp_path, tiny_lm.as_dora(moved(tiny_lm)), "base")
    before = tiny_lm.sha256
    assert attach_adapter(tiny_lm, Path(kept.path)) is None
    assert tiny_lm.sha256 != before

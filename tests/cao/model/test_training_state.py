"""The file that a killed training goes on from: equal after a round trip, refused where a bit of it changed."""

from pathlib import Path

import pytest
import torch

from cao.errors import InputError
from cao.model.training_state import restore_training, save_training


def parts(fill: float) -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer]:
    weight = torch.full((4, 3), fill, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    return {"weight": weight}, optimizer


def written(path: Path) -> torch.Tensor:
    parameters, optimizer = parts(1.0)
    parameters["weight"].sum().backward()
    optimizer.step()
    save_training(path, "one", parameters, optimizer, {"order": torch.arange(5).bfloat16()})
    return parameters["weight"].detach().clone()


def test_a_training_goes_on_from_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    before = written(path)
    parameters, optimizer = parts(0.0)
    carried = restore_training(path, "one", parameters, optimizer, ["order"])
    assert carried is not None
    assert carried["order"].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(parameters["weight"], before)
    assert restore_training(path, "another", parameters, optimizer, ["order"]) is None


@pytest.mark.parametrize("from_the_end", [1, 7, 20, 40, 70, 100])
def test_a_changed_bit_is_damage(tmp_path: Path, from_the_end: int) -> None:
    path = tmp_path / "state.safetensors"
    written(path)
    data = bytearray(path.read_bytes())
    data[-from_the_end] ^= 4
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged .* delete it to train from the start"):
        restore_training(path, "one", *parts(0.0), ["order"])

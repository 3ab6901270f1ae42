"""The generator's file: what is saved comes back; what is damaged, forged or made for another model is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cao.errors import InputError
from cao.model.adapters import adapter_sha256
from tests.tools.forging import Edit, rewrite
from tests.tools.generate_lora.tiny_generators import BASE, CHANNELS, LENGTH, SMALL, N, prompts, untrained
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import TrainedGenerator, load_generator
from tools.generate_lora.statistics import StatisticsMode


@pytest.fixture(params=["element", "layer"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    untrained(mode=request.param).save(tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


@pytest.mark.parametrize("mode", ["element", "layer"])
def test_what_is_saved_comes_back(mode: StatisticsMode, tmp_path: Path) -> None:
    path, generator = tmp_path / "generator.safetensors", untrained(mode=mode)
    sha256 = generator.save(path)
    generator.round_as_stored()
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    loaded = load_generator(path, BASE)
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws nothing
    assert loaded.sha256 == sha256 == generator.sha256
    assert (loaded.layout, loaded.identity, loaded.made) == (generator.layout, generator.identity, generator.made)
    assert (loaded.prompts, loaded.base_sha256, loaded.mode) == (N, BASE, mode)
    assert loaded.decoder.ladder == generator.decoder.ladder
    wanted = generator.state_dict()
    assert loaded.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in loaded.state_dict().items())
    assert adapter_sha256(loaded.generate(*prompts(4))) == adapter_sha256(generator.generate(*prompts(4)))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_weights_are_stored_in_bf16_but_exponents_are_not(tmp_path: Path) -> None:
    for mode, exact in (("element", {"scale"}), ("layer", {"scale", "centre"})):
        untrained(mode=mode).save(tmp_path / mode)  # type: ignore[arg-type]
        stored = load_file(tmp_path / mode)
        assert {name for name, value in stored.items() if value.dtype == torch.float32} == exact
        assert {value.dtype for name, value in stored.items() if name not in exact} == {torch.bfloat16}


def test_a_trained_centre_is_stored_like_a_fixed_one(tmp_path: Path) -> None:
    fixed = untrained()
    start = fixed.statistics
    trained = TrainedGenerator(fixed.decoder.ladder, SMALL, start, fixed.identity, train_centre=True)
    assert "centre" in dict(trained.named_parameters())
    trained.load_state_dict(fixed.state_dict())
    trained.made = fixed.made
    assert trained.save(tmp_path / "one") == fixed.save(tmp_path / "two")


@pytest.mark.parametrize("cut", [0, 7, 200, -1])
def test_a_truncated_file_is_named(file: Path, cut: int) -> None:
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"generator\.safetensors: damaged"):
        load_generator(file)
    file.unlink()
    with pytest.raises(InputError, match=r"generator\.safetensors: there is no such file"):
        load_generator(file)


SEAL = ("content", "{name}{shape}{dtype}")
NORM = "decoder.blocks.0.mix.weight"


@pytest.mark.parametrize(
    "edit",
    [
        lambda tensors, told: tensors[NORM].mul_(2),
        lambda tensors, told: tensors["centre"].neg_(),
        lambda tensors, told: tensors["scale"].mul_(1.001),
        lambda tensors, told: tensors.update(scale=tensors["scale"].bfloat16()),
        lambda tensors, told: tensors.pop("place.bias"),
        lambda tensors, told: tensors.update(more=torch.ones(1)),
        lambda tensors, told: told["identity"].update(base_sha256="d" * 64),
        lambda tensors, told: told["made"].update(loss=0.0),
        lambda tensors, told: told.update(content="0" * 64),
        lambda tensors, told: told.update(content=None),
    ],
)
def test_tampering_is_found(file: Path, edit: Edit) -> None:
    rewrite(file, edit)
    with pytest.raises(InputError, match=r"generator\.safetensors: its content has hash [0-9a-f]{12}, recorded is "):
        load_generator(file)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tensors, told: tensors["centre"].fill_(float("nan")), "centre holds values that are not finite"),
        (lambda tensors, told: tensors[NORM].fill_(float("inf")), "mix.weight holds values that are not finite"),
        (
            lambda tensors, told: tensors.update(centre=tensors["centre"].long()),
            "centre holds no floating-point",
        ),
        (lambda tensors, told: tensors.pop("centre"), "its weights do not fit its sizes"),
        (lambda tensors, told: tensors.pop("place.bias"), "its weights do not fit its sizes"),
        (lambda tensors, told: tensors.update({NORM: tensors[NORM][:1]}), "its weights do not fit its sizes"),
        (
            lambda tensors, told: tensors.update(centre=tensors["centre"][:, :1].contiguous()),
            "statistics do not fit its token",
        ),
        (lambda tensors, told: tensors["scale"].zero_(), "a spread that is not above zero"),
        (lambda tensors, told: told.update(format="cao-generator-9"), "'cao-generator-9', this version reads"),
        (lambda tensors, told: told["layout"].update(rank=4), "(statistics do not fit its|does not make the layout's)"),
        (lambda tensors, told: told["layout"].update(rank="4"), r"header cannot be read \(layout.rank"),
        (lambda tensors, told: told["layout"].update(alpha=3), "LoRA initialisation 7 is .* trained from"),
        (lambda tensors, told: told["ladder"].update(kernel=2), "a decoder's kernel is odd, 2 is not"),
        (lambda tensors, told: told["ladder"].update(shapes=[[1, 2]]), r"header cannot be read \(ladder.shapes"),
        (lambda tensors, told: told["ladder"]["shapes"][1].__setitem__(0, 2**19), "its weights do not fit its sizes"),
        (lambda tensors, told: told["ladder"].pop("shapes"), "its header cannot be read"),
        (lambda tensors, told: told["identity"].pop("initial_seed"), "its header cannot be read"),
        (
            lambda tensors, told: told["identity"].update(initial_seed="7"),
            r"cannot be read \(identity.initial_seed",
        ),
        (lambda tensors, told: told["identity"].update(initial_seed=8), "LoRA initialisation 8 is"),
        (lambda tensors, told: told.update(statistics="other"), r"header cannot be read \(statistics"),
        (lambda tensors, told: told.update(made=[]), r"header cannot be read \(made"),
    ],
)
def test_a_forged_file_with_a_right_hash_is_still_checked(file: Path, edit: Edit, message: str) -> None:
    rewrite(file, edit, SEAL)
    with pytest.raises(InputError, match=rf"generator\.safetensors: .*{message}"):
        load_generator(file)


@pytest.mark.parametrize("about", [None, "", "[" * 9000, "[1]", '"text"', "3", '{"a": NaN}', '{"content": "x"}'])
def test_other_safetensors_files_are_no_generators(tmp_path: Path, about: str | None) -> None:
    path = tmp_path / "generator.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata={} if about is None else {"about": about})
    with pytest.raises(InputError, match=r"generator\.safetensors: not a generator"):
        load_generator(path)


def test_another_base_model_is_refused_with_both_hashes(file: Path) -> None:
    with pytest.raises(InputError, match="made for base model bbbbbbbbbbbb, this one is dddddddddddd"):
        load_generator(file, "d" * 64)
    assert load_generator(file).base_sha256 == BASE


@pytest.mark.parametrize("name", ["centre", "place.bias", NORM])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3.4e38])
def test_values_that_are_not_finite_are_never_written(tmp_path: Path, name: str, bad: float) -> None:
    generator = untrained()
    generator.state_dict()[name].view(-1)[0] = bad  # the last one is finite, but not in bf16
    with pytest.raises(ValueError, match=rf"non-finite values in {name}"):
        generator.save(tmp_path / "generator.safetensors")
    assert not list(tmp_path.iterdir())
    if bad != 3.4e38:
        with pytest.raises(ValueError, match="not finite"):
            generator.generate(*prompts(2))


def test_a_ladder_that_ends_elsewhere_is_refused() -> None:
    good = untrained()
    for last in ((SMALL.tokens + 1, 4, 9), (SMALL.tokens, 3, 7)):
        ladder = Ladder(((N, LENGTH, CHANNELS), last), 3)
        with pytest.raises(InputError, match="does not make the layout's tokens"):
            TrainedGenerator(ladder, SMALL, good.statistics, good.identity, train_centre=False)

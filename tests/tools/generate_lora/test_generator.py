"""The trained generator: what comes back from disk, what is refused, any number of prompts, what PEFT loads."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import adapter_sha256, initial_lora, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.profiles import LORA_TARGETS
from cao.sealed import content_sha256
from cao.types import AdapterRef
from tests.tools.generate_lora.test_lora_tokens import shapes
from tools import pretrained
from tools.generate_lora import find_generator, generate_lora
from tools.generate_lora import generator as module
from tools.generate_lora.decoder import Ladder
from tools.generate_lora.generator import Identity, TrainedGenerator, load_generator
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import TokenLayout, flatten

BASE, ENCODER = "b" * 64, "e" * 64
N, LENGTH, CHANNELS = 3, 6, 5
SMALL = TokenLayout.of(shapes(2, 8, 4, 12), 2, 8, (3, 7), (4, 9))


def untrained(layout: TokenLayout = SMALL, mode: StatisticsMode = "element", base: str = BASE) -> TrainedGenerator:
    """A generator with random weights; its residuals differ with the prompts."""
    start = initial_lora(layout.shapes(), LORA_TARGETS, layout.rank, layout.alpha, 7, base)
    ladder = Ladder(((N, LENGTH, CHANNELS), (4, 3, 4), (layout.tokens, *layout.frame)), 3, affine=mode == "layer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        checkpoints = 0.1 * torch.randn(3, layout.layers, layout.length)
        statistics, identity = Statistics.fit(mode, checkpoints), Identity(base, ENCODER, 7, adapter_sha256(start))
        generator = TrainedGenerator(ladder, layout, statistics, identity, train_centre=False)
        torch.nn.init.normal_(generator.place.weight)  # as if it had been trained
    generator.made = {"preset": "a test", "loss": 0.1 + 0.2}
    return generator.eval().requires_grad_(False)


def prompts(n: int, seed: int = 0, length: int = LENGTH, channels: int = CHANNELS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length, (n, 1), generator=generator)
    return torch.randn(n, length, channels, generator=generator) * mask.unsqueeze(-1), mask


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


Edit = Callable[[dict[str, Tensor], dict[str, Any]], object]


def rewrite(file: Path, edit: Edit, *, sign: bool = False) -> None:
    """Change tensors or header in place; ``sign`` also renews the hash, as a forger would."""
    tensors = load_file(file)
    with safe_open(file, framework="pt") as stream:
        told = json.loads(stream.metadata()["about"])
    edit(tensors, told)
    if sign:
        del told["content"]
        told["content"] = content_sha256(told, tensors, "{name}{shape}{dtype}")
    save_file(tensors, file, metadata={"about": json.dumps(told)})


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
    rewrite(file, edit, sign=True)
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


@pytest.mark.parametrize("mode", ["element", "layer"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 40])
def test_any_number_of_prompts_makes_one_adapter(n: int, mode: StatisticsMode) -> None:
    generator = untrained(mode=mode)
    states, mask = prompts(n)
    weights = generator.generate(states, mask)
    assert weights.provenance == {"made_by": "generator", "generator": "", "prompts": str(n)}
    count = -(-n // N)
    tensors = [[states[(place * count + k) % n] for place in range(N)] for k in range(count)]
    masks = [[mask[(place * count + k) % n] for place in range(N)] for k in range(count)]
    each = [
        generator.residual(torch.stack(some)[None], torch.stack(kept)[None])[0]
        for some, kept in zip(tensors, masks, strict=True)
    ]
    wanted = torch.stack(each).mean(0)
    assert torch.allclose(generator.to_residual(weights), wanted, atol=1e-6)
    used = {(place * count + k) % n for place in range(N) for k in range(count)}
    assert used == set(range(n))


def test_blocks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, seen = untrained(), []
    generator.decoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    whole = generator.generate(*prompts(20))
    monkeypatch.setattr(module, "BLOCK", 2)
    parts = generator.generate(*prompts(20))
    assert seen == [7, 2, 2, 2, 1]
    assert torch.allclose(generator.to_residual(whole), generator.to_residual(parts), atol=1e-6)


def test_what_stands_behind_the_mask_does_not_matter_and_what_stands_before_does() -> None:
    generator, (states, mask) = untrained(), prompts(5)
    here = generator.generate(states, mask)
    noisy = states + 1e6 * ~mask.unsqueeze(-1)
    assert adapter_sha256(generator.generate(noisy, mask)) == adapter_sha256(here)
    batch = generator.residual(torch.stack([states[:N], noisy[:N]]), torch.stack([mask[:N]] * 2))
    assert torch.equal(batch[0], batch[1])
    moved = states + 0.1 * mask.unsqueeze(-1) * torch.randn(CHANNELS, generator=torch.Generator().manual_seed(3))
    assert adapter_sha256(generator.generate(moved, mask)) != adapter_sha256(here)


def test_frame_and_padding_are_cut_off() -> None:
    generator, (states, mask) = untrained(), prompts(N)
    before = generator.residual(states[None], mask[None])
    images = generator.decoder(states[None])[0]
    flat = images[..., : SMALL.token[0], : SMALL.token[1]].reshape(SMALL.layers, -1)[:, : SMALL.length]
    gain, offset = generator.place(generator.codes).T.repeat_interleave(SMALL.size, 1)
    gain, offset = (x.view(SMALL.layers, -1)[:, : SMALL.length] for x in (gain, offset))
    wanted = (flat * (1 + gain) + offset) * generator.scale + generator.centre
    assert torch.allclose(before[0], wanted, atol=1e-6)


def test_position_codes_move_tokens_apart() -> None:
    generator = untrained()
    torch.nn.init.zeros_(generator.decoder.blocks[-1].mix.weight)
    torch.nn.init.ones_(generator.decoder.blocks[-1].mix.bias)
    states, mask = prompts(N)
    normal, _ = generator((states * mask.unsqueeze(-1))[None])
    per_token = normal[0].flatten()[:: SMALL.size].unique()
    assert len(per_token) > SMALL.tokens // 2


def test_residuals_are_differentiable_in_every_weight() -> None:
    for mode in ("element", "layer"):
        generator = untrained(mode=mode).train().requires_grad_(True)  # type: ignore[arg-type]
        states, mask = prompts(N)
        generator.residual(states[None], mask[None]).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in generator.parameters())


@pytest.mark.parametrize(
    ("n", "length", "channels"), [(0, LENGTH, CHANNELS), (2, LENGTH + 1, CHANNELS), (2, LENGTH, 4)]
)
def test_token_states_of_another_size_are_refused(n: int, length: int, channels: int) -> None:
    with pytest.raises(InputError, match=rf"shape \({n}, {length}, {channels}\); this generator reads \(n, 6, 5\)"):
        untrained().generate(*prompts(n, 0, length, channels))


def of_tiny(lm: LanguageModel) -> TrainedGenerator:
    layout = TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (8, 16))
    return untrained(layout, base=lm.sha256)


class Drawn:
    """An encoder that draws a prompt's states."""

    def __init__(self, sha256: str = ENCODER) -> None:
        self.sha256 = sha256

    def tokens(self, texts: list[str]) -> list[int]:
        return [LENGTH for _ in texts]

    def condition(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return prompts(len(texts))


def generated(lm: LanguageModel, store: Path, encoder: Drawn) -> AdapterRef | None:
    texts = ["one", "two", "three", "four"]
    return generate_lora(texts, lm=lm, store=store, encoder=encoder, generator=of_tiny(lm)).adapter


def test_peft_loads_what_is_generated_and_computes_alike(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    from peft import PeftModel

    made = generated(tiny_lm, tmp_path / "store", Drawn())
    assert made is not None
    stored = load_adapter(Path(made.path), tiny_lm.sha256)
    ids = torch.tensor([tiny_lm.encode("Question: Which of these animals can fly?\nAnswer:")])
    with torch.no_grad():
        plain = tiny_lm.model(input_ids=ids).logits
        with tiny_lm.adapted(stored):
            ours = tiny_lm.model(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(tiny_lm.model, made.path, autocast_adapter_dtype=False)(ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)


def test_generating_twice_gives_the_same_bits_and_starts_a_training(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    generator = of_tiny(tiny_lm)
    first, second = (generator.generate(*prompts(4)) for _ in range(2))
    assert save_adapter(tmp_path, first, "tiny") == save_adapter(tmp_path, second, "tiny")
    flat = flatten(first.tensors, generator.layout).requires_grad_(True)  # no tensor of inference mode
    (flat * flat).sum().backward()
    assert flat.grad is not None


def test_another_encoder_is_refused_with_both_hashes(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="encoder is ffffffffffff, the generator reads eeeeeeeeeeee"):
        generated(tiny_lm, tmp_path, Drawn("f" * 64))


def listed(folder: Path, **changes: Any) -> Path:
    """An index with a full variant and one without piqa, both really there."""
    variants = []
    for k, (name, leaves_out) in enumerate((("full", []), ("without-piqa", ["piqa"]))):
        generator = untrained()
        generator.made = {"number": k}
        sha256 = generator.save(folder / f"{name}.safetensors")
        entry = {"path": f"{name}.safetensors", "sha256": sha256, **changes.get("generator", {})}
        variants.append({"name": name, "sources": ["piqa", "boolq"], "leaves_out": leaves_out, "generator": entry})
    index = {"format": 1, "models": {BASE: {"name": "tiny", "variants": variants}}}
    path = folder / "index.json"
    path.write_text(json.dumps({**index, **changes.get("index", {})}))
    return path


def test_the_variant_that_never_saw_the_task_is_chosen(tmp_path: Path) -> None:
    index = listed(tmp_path)

    def number(task: str | None, variant: str = "auto") -> int:
        generator = find_generator(BASE, task, variant, index)
        assert generator is not None
        return int(generator.made["number"])

    assert [number("piqa"), number("boolq"), number("medqa"), number(None)] == [1, 0, 0, 0]
    assert [number("piqa", "full"), number(None, "without-piqa")] == [0, 1]
    with pytest.raises(InputError, match=r"no variant 'without-boolq' .* tiny; known: full, without-piqa"):
        find_generator(BASE, "boolq", "without-boolq", index)
    assert find_generator("d" * 64, None, "auto", index) is None
    assert find_generator(BASE, None, "auto", tmp_path / "absent.json") is None


@pytest.mark.parametrize("path", ["../generator.safetensors", "/etc/passwd", "folder/../../x", "link/x", "x\0y"])
def test_a_path_out_of_the_indexs_folder_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    index = listed(folder, generator={"path": path})
    with pytest.raises(InputError, match="lies outside of"):
        find_generator(BASE, None, "auto", index)


def test_a_file_that_is_not_the_one_listed_is_refused(tmp_path: Path) -> None:
    index = listed(tmp_path)
    other = tmp_path / "without-piqa.safetensors"
    hashes = [load_generator(tmp_path / f"{name}.safetensors").sha256[:12] for name in ("without-piqa", "full")]
    (tmp_path / "full.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(InputError, match=rf"full\.safetensors: this is generator {hashes[0]}, .* lists {hashes[1]}"):
        find_generator(BASE, None, "auto", index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSONDecodeError"),
        ("[]", "valid dictionary"),
        ("[" * 9000, "RecursionError|JSONDecodeError"),
        ('{"format": 2, "models": {}}', "format: "),
        ('{"format": 1}', "models: "),
        ('{"format": 1, "models": {"b": {"name": "tiny", "variants": [{"name": "full"}]}}}', "generator|sources"),
        ('{"format": 1, "models": {}, "more": 1}', "more: "),
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str, message: str) -> None:
    index = tmp_path / "index.json"
    index.write_text(text)
    with pytest.raises(InputError, match=rf"index\.json: not an index of trained parts.*({message})"):
        pretrained.choose(BASE, None, "auto", index)


def test_changing_what_an_adapter_is_for_changes_its_hash() -> None:
    weights = untrained().generate(*prompts(3))
    assert weights.base_sha256 == BASE
    assert (weights.rank, weights.alpha, weights.targets) == (2, 8, tuple(sorted(LORA_TARGETS)))
    assert adapter_sha256(replace(weights, base_sha256="d" * 64)) != adapter_sha256(weights)

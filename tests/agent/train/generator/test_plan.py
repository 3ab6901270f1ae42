"""``agent.consolidate --dry-run``, and a base model that is no known one."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from agent.consolidate import main
from agent.train.generator.effort import Efforts, decoder
from agent.train.generator.plan import plan
from agent.train.generator.presets import PRESETS
from agent.train.generator.run import stages
from agent.train.generator.settings import Settings
from cao.errors import InputError
from cao.model.loading import load_model, weights_sha256
from cao.model.profiles import MODELS
from tests.agent.tiny_pretrained import MODEL
from tests.cao.model.families import save_family
from tools.generate_lora.decoder import HyperConvDecoder, Ladder
from tools.generate_lora.generator import load_generator
from tools.pretrained import read_index

OF = {"paper-0.5b": "qwen2.5-0.5b", "paper-1.5b": "qwen2.5-1.5b"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_plan_and_nothing_is_written(preset: str, tmp_path: Path) -> None:
    settings = Settings(model=OF.get(preset, MODEL), preset=preset, out=str(tmp_path), offline=True)
    content = plan(settings)
    assert list(tmp_path.iterdir()) == []
    assert sum(part["jobs"] for part in content["parts"].values()) == sum(map(len, stages(PRESETS[preset])))
    for part in content["parts"].values():
        for low, high in (part["hours_cpu"], part["hours_gpu"], part["memory"]):
            assert 0 <= low <= high
            assert math.isfinite(high)
    assert content["hours_gpu"][1] < content["hours_cpu"][1]
    weights = MODELS[settings.model].parameters * {"float32": 4, "bfloat16": 2}[content["dtype"]]
    assert content["memory"][0] > weights
    if preset in OF:  # the decoder's weights, their gradients and Adam's averages alone
        assert content["memory"][0] > weights + 16 * decoder(PRESETS[preset].ladder, 4).weights


@pytest.mark.parametrize("preset", OF)
def test_the_papers_adapters_are_of_the_profiles_size(preset: str) -> None:
    base, sizes = MODELS[OF[preset]], PRESETS[preset]
    tokens = sizes.ladder.shapes[-1][0]
    assert base.adapter * base.lora_rank == tokens * sizes.token[0] * sizes.token[1]


def test_what_is_counted_of_a_decoder_is_what_it_does() -> None:
    ladder = Ladder(((3, 8, 12), (4, 6, 8), (10, 4, 8)), kernel=3)
    real = HyperConvDecoder(ladder)
    with FlopCounterMode(display=False) as counter:
        sum(made.sum() for made in real(torch.randn(2, 3, 8, 12))).backward()
    made = decoder(ladder, 2)
    assert (made.weights, made.step) == (sum(each.numel() for each in real.parameters()), counter.get_total_flops())
    assert 0 < 2 * made.forward < made.step
    assert made.kept > 0


def test_more_steps_take_longer_by_as_much() -> None:
    preset, base = PRESETS["embedded"], MODELS[MODEL]
    more = preset.model_copy(
        update={"checkpoints": preset.checkpoints.model_copy(update={"warm_steps": 40 + 50, "kept_steps": 10})}
    )
    short, long = (Efforts(each, base, 64, 2).of(("checkpoints", "arc_easy")) for each in (preset, more))
    assert long.model == pytest.approx(2 * short.model)
    generator = Efforts(preset, base, 64, 2).of(("generator", "full"))
    assert generator.single == pytest.approx(preset.generator.steps * decoder(preset.ladder, 3).step)


def test_the_command_prints_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--offline", "--out", str(tmp_path), "--dry-run"]
    assert main([*argv, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["rates"]["gpu"] > 0
    assert main(argv) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Nothing was computed" in shown
    assert "an assumption" in shown
    assert f"{content['rates']['cpu_float32'] / 1e9:.0f} GFLOP/s in float32, measured" in shown
    assert shown.count("in float32") == 1  # a rate is stated once
    assert "No aligner" not in shown


def test_jobs_that_are_done_are_not_in_the_plan(tmp_path: Path) -> None:
    settings = Settings(out=str(tmp_path), preset="embedded", offline=True)
    whole = plan(settings)
    done = settings.folder / "states" / "arc_easy.safetensors"
    done.parent.mkdir(parents=True)
    done.touch()
    rest = plan(settings)
    assert rest["done"] == 1
    assert rest["parts"]["states"]["jobs"] == whole["parts"]["states"]["jobs"] - 1


# a base model without a profile ----------------------------------------------------------------------------------


def test_a_folders_decoder_ends_as_its_model_needs(tiny_model_folder: Path, tmp_path: Path) -> None:
    model = str(tiny_model_folder)
    settings = Settings(model=model, preset="embedded", out=str(tmp_path), offline=True, dtype="float32")
    lm, preset = load_model(settings), settings.resolved()
    profile = lm.profile
    layout = preset.layout(lm.lora_shapes(), profile.lora_rank, profile.lora_alpha)
    assert preset.ladder.shapes[:-1] == PRESETS["embedded"].ladder.shapes[:-1]
    assert preset.ladder.shapes[-1][0] == layout.tokens
    assert settings.base.adapter * profile.lora_rank == layout.total
    assert settings.folder == tmp_path / "consolidate-model-embedded-s0"
    claim = settings.claim()
    assert (claim["model"], claim["model_path_sha256"]) == (str(tiny_model_folder.resolve()), lm.sha256)
    core = Settings(model=model, out=str(tmp_path), offline=True)
    assert core.folder == tmp_path / "consolidate-model-small-s0"  # what a model without a profile begins with
    core.resolved().layout(lm.lora_shapes(), profile.lora_rank, profile.lora_alpha)


def test_a_ladder_that_is_given_is_kept_and_the_fitting_one_is_said(tiny_model_folder: Path) -> None:
    ladder = {"ladder": {"shapes": [[4, 384, 384], [15, 16, 128]]}}
    preset = Settings(model=str(tiny_model_folder), preset="embedded", offline=True, values=ladder).resolved()
    lm = load_model(Settings(model=str(tiny_model_folder), preset="embedded", offline=True, dtype="float32"))
    with pytest.raises(InputError, match=r"add --set 'ladder.shapes=\[\[4, 384, 384\], \[\d+, 16, 128\]\]'"):
        preset.layout(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha)


def test_a_model_whose_layers_have_other_names_is_refused_before_it_is_loaded(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_family("Phi3", tmp_path / "phi", tiny_model_folder)
    assert main(["--model", str(folder), "--offline", "--out", str(tmp_path), "--dry-run"]) == 2
    assert "not a module with LoRA" in capsys.readouterr().err


def test_a_profiles_changes_are_part_of_what_a_folder_is_for() -> None:
    plain, other = (Settings(profile=each, offline=True) for each in ({}, {"lora_rank": 8}))  # type: ignore[arg-type]
    assert plain.claim()["profile"] is None
    assert other.claim()["profile"] == {"lora_rank": 8}


@pytest.mark.slow
def test_a_folder_is_consolidated_and_installed_as_a_known_name_is(tiny_model_folder: Path, tmp_path: Path) -> None:
    few = {
        **{"sources": '["openbookqa", "sciq"]', "row_tokens": "64", "prompts_encoded": "4", "validated": "2"},
        **{"checkpoints.samples": "20", "generator.steps": "2", "generator.batch": "2"},
    }
    argv = ["--model", str(tiny_model_folder), "--offline", "--out", str(tmp_path / "runs"), "--dtype", "float32"]
    argv += ["--install", "--pretrained", str(tmp_path / "shelf"), "--set", "profile.answer_style=text"]
    argv += [part for key, value in few.items() for part in ("--set", f"{key}={value}")]
    assert main(argv) == 0
    index = read_index(tmp_path / "shelf" / "index.json")
    assert index is not None
    ((base_sha256, shelf),) = index.models.items()
    assert (base_sha256, shelf.name) == (weights_sha256(tiny_model_folder), "model")
    assert load_generator(tmp_path / "shelf" / shelf.variants[0].generator.path, base_sha256).layout.total > 0

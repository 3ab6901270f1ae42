"""What ``--model`` may name, the profile that is inferred of it, and what is refused in one line."""

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from agent.budget.memory import POLICY, TASK, models_memory
from agent.config import make_config
from cao.configuration import Machine
from cao.errors import CaoError, InputError, UnavailableError
from cao.machine.compute import Compute
from cao.model import memory
from cao.model.adapters import save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model, resolve
from cao.model.memory import Need, check_room, stored_parameters
from cao.model.profiles import LORA_TARGETS, MODELS, ModelProfile, laid_over, rank_and_alpha, short_name
from cao.model.start_adapter import attach_adapter
from cao.profile_settings import ProfileSettings
from cao.types import WEIGHTS_FILE
from policies.local import own_model
from tests.cao.model.families import save_family

FLOAT32 = Compute(dtype="float32", threads=1, processor="any")
PAPER = {"qwen2.5-0.5b": (8, 16, 896), "qwen2.5-1.5b": (16, 16, 1536), "smollm2-135m": (4, 16, 576)}


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A model's folder that a test may spoil."""
    return shutil.copytree(tiny_model_folder, tmp_path / "My Model")


def load(folder: Path, **profile: object) -> LanguageModel:
    settings = ProfileSettings.model_validate(profile)
    return load_model(Machine(model=str(folder), profile=settings, dtype="float32", offline=True))


def refusal(folder: Path, kind: type[CaoError] = InputError, **profile: object) -> str:
    with pytest.raises(kind) as refused:
        load(folder, **profile)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_known_profile_is_a_file_and_every_file_is_known() -> None:
    files = {path.stem: tomllib.loads(path.read_text()) for path in Path("cao/model/profiles").glob("*.toml")}
    assert set(files) == set(MODELS)
    assert {name: stated["name"] for name, stated in files.items()} == {name: name for name in files}
    for name, (rank, alpha, width) in PAPER.items():
        assert (MODELS[name].lora_rank, MODELS[name].lora_alpha) == (rank, alpha) == rank_and_alpha(width)


def test_a_folders_profile_is_inferred_printed_and_loaded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = resolve(str(folder))
    assert profile.name == "my-model"
    assert (profile.architecture, profile.lora_targets) == ("Qwen2ForCausalLM", LORA_TARGETS)
    assert (profile.lora_rank, profile.lora_alpha, profile.chat) == (4, 16, True)
    assert profile.end_tokens == ("<|endoftext|>",)
    assert profile.parameters == stored_parameters(folder) == profile.trunk + profile.head
    lm = load(folder)
    assert lm.profile == replace(profile, measure_style=False, answer_style=lm.profile.answer_style)
    told = capsys.readouterr().err
    assert "right on 12 easy questions" in told
    assert lm.profile.sentence() in told


def test_every_key_of_a_profile_can_be_set(folder: Path) -> None:
    end = "<|im_end|>"
    lm = load(
        folder,
        **{"answer_style": "letter", "lora_rank": 6, "lora_alpha": 5, "lora_targets": ["q_proj", "v_proj"]},
        **{"chat": False, "start_token": "<|im_start|>", "end_tokens": [end], "preset": "paper-0.5b"},
    )
    profile = lm.profile
    assert (profile.answer_style, profile.preset, profile.lora_targets) == (
        "letter",
        "paper-0.5b",
        ("q_proj", "v_proj"),
    )
    weights = lm.fresh_lora(0)
    assert (weights.rank, weights.alpha, len(weights.modules())) == (6, 5, 4)
    assert lm.tokenizer.chat_template is None
    assert lm.tokenizer.bos_token == "<|im_start|>"
    assert lm.tokenizer.convert_tokens_to_ids(end) in lm.end_tokens()


def test_a_run_takes_a_folder_and_a_table_and_says_the_memory_first(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(folder, tmp_path / "other" / "My Model")
    (tmp_path / "run.toml").write_text(
        f'task = "arc_easy"\nmodel = "{folder}"\n[profile]\nanswer_style = "text"\nlora_rank = 2\n'
        f'[policy_settings]\nmodel = "{own}"\n[policy_settings.profile]\nchat = false\n'
    )
    config = make_config(tmp_path / "run.toml", {}, [])
    assert config.fingerprint()["profile"] == {**ProfileSettings().model_dump(), "answer_style": "text", "lora_rank": 2}
    size = 4 * stored_parameters(folder)
    assert models_memory(config, FLOAT32) == [Need(TASK, "my-model", size), Need(POLICY, "my-model", size)]
    shared = make_config(tmp_path / "run.toml", {}, [f"policy_settings.model={folder}"])
    assert models_memory(shared, FLOAT32) == [Need(TASK, "my-model", size)]

    lm = load(folder, answer_style="text")
    assert own_model(shared.policy_settings, lm, True) is lm
    policy = own_model(config.policy_settings, lm, True)
    assert policy is own_model(config.policy_settings, lm, True)  # the describer's, too
    assert policy.model is not lm.model
    assert "easy questions" not in capsys.readouterr().err  # a policy ranks no answers
    assert (policy.tokenizer.chat_template, bool(lm.tokenizer.chat_template)) == (None, True)


def test_a_policy_named_as_the_run_is_the_names_own_where_the_run_took_another_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(None, {"task": "arc_easy", "model": "qwen2.5-0.5b"}, ["policy_settings.model=qwen2.5-0.5b"])
    lm = load(folder)
    same = replace(lm, profile=resolve("qwen2.5-0.5b"))
    assert own_model(config.policy_settings, same, True) is same
    assert [need.what for need in models_memory(config, FLOAT32)] == [TASK]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    other = replace(lm, profile=resolve("qwen2.5-0.5b", path=str(folder)))
    with pytest.raises(UnavailableError, match="cannot be had"):
        own_model(config.policy_settings, other, True)
    config = config.model_copy(update={"model_path": str(folder)})
    assert [need.what for need in models_memory(config, FLOAT32)] == [TASK, POLICY]


def test_runs_without_a_profile_keep_their_fingerprint() -> None:
    stated = make_config(None, {"task": "arc_easy"}, []).fingerprint()
    assert "profile" not in stated
    assert isinstance(stated["policy_settings"], dict)
    assert "profile" not in stated["policy_settings"]


def test_a_hub_id_is_read_from_the_hubs_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UnavailableError, match="hf download someone/Tiny-Qwen"):
        resolve("someone/Tiny-Qwen", offline=True)
    place = tmp_path / "hub" / "models--someone--Tiny-Qwen"
    shutil.copytree(folder, place / "snapshots" / "0123")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0123")
    settings = ProfileSettings(answer_style="text")
    lm = load_model(Machine(model="someone/Tiny-Qwen", profile=settings, dtype="float32", offline=True))
    assert (lm.profile.name, lm.source) == ("tiny-qwen", "someone/Tiny-Qwen")
    assert lm.tokenizer.chat_template  # it may lie in a file of its own


def test_a_known_hub_id_is_the_known_profile() -> None:
    assert resolve("Qwen/Qwen2.5-0.5B-Instruct") is MODELS["qwen2.5-0.5b"]
    assert short_name("/somewhere/Qwen2.5-0.5B") == "qwen2.5-0.5b-own"
    assert short_name("x/._Größe .gguf") == "gr-e"


@pytest.mark.parametrize("name", ["nothing", "", "a/b/c", "./absent", "absent.gguf", "a\0b"])
def test_what_names_no_model_is_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown model .* known: smollm2-135m"):
        make_config(None, {"task": "arc_easy", "policy_settings": {"model": name}}, [])


def test_a_gguf_file_of_another_kind_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "other.gguf"
    writer = GGUFWriter(path, "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tmp_path / "broken.gguf").write_bytes(b"nothing")
    for file in (path, tmp_path / "broken.gguf"):
        assert "give that as --model" in refusal(file)


def test_a_folder_without_weights_or_with_pickled_ones_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no safetensors file" in refusal(folder)
    torch.save({}, folder / "pytorch_model.bin")
    told = refusal(folder)
    assert "pytorch_model.bin is a pickle" in told
    assert "save_pretrained" in told
    (folder / "config.json").unlink()
    assert "no model folder" in refusal(folder, UnavailableError)


def test_weights_that_are_not_the_models_are_refused(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        ({key: value for key, value in whole.items() if key != name}, f"lack 1 of the model's weights, {name}"),
        (
            {**whole, "model.layers.0.extra.weight": torch.ones(3)},
            "has no place for 1 of its weights, model.layers.0.ex",
        ),
        ({**whole, name: torch.ones(3, 3)}, "other sizes than config.json says"),
    ]
    for tensors, why in cases:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        assert why in refusal(folder)


def test_another_models_tokenizer_is_refused(folder: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for rows in (20, 5000):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.embed_tokens.weight"] = torch.zeros(rows, 32, dtype=torch.bfloat16)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": rows}))
        told = refusal(folder)
        assert f"the model {rows}, so it is another model's" in told
    for file in [*folder.glob("*token*"), *folder.glob("chat*")]:
        file.unlink()
    assert "tokenizer" in refusal(folder)


def test_layers_and_tokens_that_are_not_there_are_refused(
    folder: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    told = refusal(folder, lora_targets=["Wqkv"])
    assert "none of the linear layers that carry LoRA (Wqkv)" in told
    assert '"q_proj"' in told
    assert "no '<|nobody|>'" in refusal(folder, end_tokens=["<|nobody|>"])
    convolutions = save_family("GPT2", tmp_path / "gpt2", tiny_model_folder)
    assert "c_attn" in refusal(convolutions)


def test_a_models_own_code_is_never_run(folder: Path) -> None:
    path = folder / "config.json"
    stated = {**json.loads(path.read_text()), "model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Model"}}
    path.write_text(json.dumps(stated))
    (folder / "mine.py").write_text("raise SystemExit(99)")
    assert "trust_remote_code" in refusal(folder)
    path.write_text("[")
    assert "not a model's configuration" in refusal(folder)


@pytest.mark.parametrize("change", [{"hidden_size": "x"}, {"num_hidden_layers": 0}, {"num_attention_heads": 0}])
def test_a_configuration_that_cannot_be_is_told_in_one_line(folder: Path, change: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert str(folder) in refusal(folder)


def test_an_adapter_of_another_family_is_refused(folder: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    other = load(save_family("GPTNeoX", tmp_path / "neox", tiny_model_folder), answer_style="text")
    adapter = Path(save_adapter(tmp_path / "store", other.fresh_lora(0), other.source).path)
    for told in ("made for base model", "made for this model"):
        with pytest.raises(InputError, match=told) as refused:
            attach_adapter(load(folder, answer_style="text"), adapter)
        assert "\n" not in str(refused.value)
        tensors = load_file(adapter / WEIGHTS_FILE)
        save_file(tensors, adapter / WEIGHTS_FILE, {"format": "pt"})  # as PEFT writes it: no base model is stated


def test_too_little_memory_is_said_with_both_numbers_before_loading(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = [Need(TASK, "a", 3 * 10**9), Need(POLICY, "b", 10**9)]
    check_room(needs, 4 * 10**9)
    with pytest.raises(UnavailableError, match=r"a \(3.0 GB\) and b \(1.0 GB\).* take 4.0 GB, 3.9 GB are free"):
        check_room(needs, 39 * 10**8)
    assert 0 < memory.available(tmp_path / "no container") == pytest.approx(memory.available(), rel=0.5)
    for name, text in (("max", "5000\n"), ("current", "4500\n"), ("stat", "anon 4200\ninactive_file 300\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.available(tmp_path) == 800
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) > 10**6
    (folder / "tokenizer.json").unlink()  # nothing of it is read
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(UnavailableError, match="not enough memory for smollm2-135m"):
        load_model(Machine(model_path=str(folder), offline=True))


def test_a_profile_with_an_unknown_key_or_an_odd_rank_is_refused() -> None:
    for text, told in (("profile.rank=4", "unknown key"), ("profile.lora_rank=3", "multiple of 2")):
        with pytest.raises(InputError, match=told):
            make_config(None, {"task": "arc_easy"}, [text])
    with pytest.raises(ValueError, match="multiple of 2"):
        ModelProfile("x", "y", "text", 3, 4, "embedded")
    changed = laid_over(MODELS["smollm2-135m"], ProfileSettings(answer_style="measured"))
    assert changed.measure_style

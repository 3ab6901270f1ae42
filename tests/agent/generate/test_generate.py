"""The command that makes an adapter from prompts: what it writes, what it says, what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from agent.generate import main, read_prompts
from cao.files import opened
from cao.machine.assets import minilm_folder
from cao.model.adapters import load_adapter, save_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from cao.types import CONFIG_FILE, WEIGHTS_FILE
from tests.agent import tiny_pretrained
from tests.agent.generate.command import PROMPTS, make, write
from tools import pretrained
from tools.align_lora import align_lora


def test_an_aligned_adapter_comes_out_that_peft_loads(
    command: list[str],
    tmp_path: Path,
    lm: LanguageModel,
    tiny_model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, out = make(capsys, command), tmp_path / "made"
    assert {path.name for path in out.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    assert made["adapter"]["path"] == str(out)
    assert (made["aligned"], made["variant"], made["sources"]) == (True, "full", ["arc_easy", "piqa"])
    assert made["n"] == 6
    assert set(made["seconds"]) == {"encode", "generate", "align"}
    stored = load_adapter(out, lm.sha256)
    base = load_language_model(MODELS[tiny_pretrained.MODEL], path=str(tiny_model_folder), offline=True)
    ids = torch.tensor([base.encode("Question: can it fly?\nAnswer:")])
    with torch.no_grad(), lm.adapted(stored):
        ours = lm.model(input_ids=ids).logits
    with torch.no_grad():
        plain = base.model(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(base.model, out, autocast_adapter_dtype=False)(input_ids=ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)


def test_without_alignment_it_is_the_generators_own(
    command: list[str], tmp_path: Path, lm: LanguageModel, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.loop.trained import find_trained

    aligned = make(capsys, command)
    made = make(capsys, [*command, "--no-align", "--overwrite"])  # over what was written before
    assert made["adapter"]["sha256"] != aligned["adapter"]["sha256"]
    assert not made["aligned"]
    trained = find_trained(lm.sha256, None, "auto", align=False, folder=str(shelf.parent))
    assert trained.generator is not None
    expected = trained.generator.generate(*Encoder(minilm_folder()).condition(PROMPTS))
    stored = load_adapter(tmp_path / "made")
    assert all(torch.equal(stored.tensors[name], value) for name, value in expected.tensors.items())


def test_prompts_come_in_every_form_and_the_variant_can_be_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*command, "--no-align"]  # alone of the two, it reads nothing but the prompts
    first = make(capsys, command)
    forms = [{"prompt": PROMPTS[0]}, {"question": PROMPTS[1], "choices": ["no", "yes"], "answer": 1}, PROMPTS[2:4]]
    write(tmp_path / "prompts.jsonl", [*forms, *PROMPTS[4:]])
    assert make(capsys, [*command, "--overwrite"])["adapter"] == first["adapter"]
    other = make(capsys, [*command, "--variant", "without-piqa", "--overwrite"])
    assert (other["variant"], other["sources"]) == ("without-piqa", ["arc_easy"])
    assert other["adapter"]["sha256"] != first["adapter"]["sha256"]
    context = write(tmp_path / "context.jsonl", [{"context": "Birds.", "question": "Can they fly?"}])
    assert [one.prompt for one in read_prompts(context)] == ["Birds.\nCan they fly?"]
    chats = write(tmp_path / "chats.jsonl", [{"messages": [{"role": "user", "content": "Why?"}]}, [{"content": "So?"}]])
    with chats.open("a") as file:
        file.write("plain words\n")
    assert [one.prompt for one in read_prompts(chats)] == ["Why?", "So?", "plain words"]


def test_a_model_that_answers_by_letters_is_asked_with_the_choices(
    command: list[str], shelf: Path, tmp_path: Path, lm: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.loop.trained import find_trained

    assert lm.profile.answer_style == "letter"
    rows = [{"question": prompt, "choices": ["none", "two"], "answer": 0} for prompt in PROMPTS]
    write(tmp_path / "prompts.jsonl", rows)
    made = make(capsys, command)
    trained = find_trained(lm.sha256, None, "auto", align=True, folder=shelf.parent)
    assert trained.generator is not None
    store = tmp_path / "store"
    generated = save_adapter(store, trained.generator.generate(*Encoder(minilm_folder()).condition(PROMPTS)), lm.source)
    forms = [f"Question: {prompt}\nA. none\nB. two\nAnswer:" for prompt in PROMPTS]
    aligned = align_lora(generated, forms, lm=lm, store=store, aligner=trained.aligner)
    assert aligned.adapter is not None
    assert made["adapter"]["sha256"] == aligned.adapter.sha256
    write(tmp_path / "prompts.jsonl", PROMPTS)
    assert make(capsys, [*command, "--overwrite"])["adapter"] != made["adapter"]


def test_blank_and_repeated_prompts_are_left_out_and_said(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = make(capsys, command)
    write(tmp_path / "prompts.jsonl", [PROMPTS, "", PROMPTS[0], "   "])
    made = make(capsys, [*command, "--overwrite"])
    assert made["adapter"] == clean["adapter"]
    assert made["n"] == 6
    assert any("2 of 9 prompts are blank" in caveat for caveat in made["caveats"])
    write(tmp_path / "prompts.jsonl", ["One prompt, and a long one: " + "bird " * 500])
    assert main([*command, "--overwrite"]) == 0
    told = capsys.readouterr().out
    assert "made/made" not in told
    assert f"{tmp_path / 'made'}: an aligned adapter from 1 prompt by generator “full” (encode" in told
    assert "longer than 384 tokens" in told
    assert "1 distinct prompts for the 4 that the generator takes" in told


def test_a_folder_with_anything_else_in_it_is_refused_before_anything_is_loaded(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert main(command) == 2
    assert "holds thesis.txt and is no adapter's folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "prompts.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_earlier_adapter_is_replaced_only_where_one_says_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    first = make(capsys, command)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = [*command, "--variant", "without-piqa"]
    assert main(other) == 2
    assert "holds an earlier adapter; replace it with --overwrite, or give another --out" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    second = make(capsys, [*other, "--overwrite"])
    assert second["adapter"]["sha256"] != first["adapter"]["sha256"]
    assert set(before) == {path.name for path in out.iterdir()}
    (out / CONFIG_FILE).unlink()  # a kill fell between the two files
    make(capsys, [*command, "--overwrite"])


def test_an_adapter_of_another_origin_is_never_overwritten(
    command: list[str], lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(capsys, command)
    trained = replace(load_adapter(Path(made["adapter"]["path"]), lm.sha256), provenance={"made_by": "hand"})
    theirs = save_adapter(tmp_path / "store", trained, "tiny")
    assert main([*command, "--out", theirs.path, "--overwrite"]) == 2
    assert "holds an adapter that this command did not make" in capsys.readouterr().err
    load_adapter(Path(theirs.path), lm.sha256)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no prompt"),
        ('"fine"\n{"body": "x"}\n', ":2: expected an object with 'prompt', 'question', 'content' or 'messages'"),
        ('["fine", 3]\n', ":1, prompt 2: expected a string"),
        ('{"prompt": "half \\ud800 pair"}\n', ":1: holds half of a Unicode surrogate pair"),
        ('{"prompt":\n', ":1: not JSON"),
        ('"  "\n', "no prompt is left"),
    ],
)
def test_bad_prompts_are_exit_2_and_leave_nothing(
    content: str, words: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.jsonl").write_text(content)
    assert main(command) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())


def test_what_is_not_there_is_named_with_its_command(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--model", "gpt-17"]) == 2
    assert main([*command, "--set", "seed=3"]) == 2
    assert main([*command, "--variant", "without-everything"]) == 2
    assert main([*command, "--prompts", str(tmp_path / "absent")]) == 2
    capsys.readouterr()
    assert main([*command, "--set", f"pretrained={tmp_path}"]) == 3
    told = capsys.readouterr().err
    assert "run: python -m agent.consolidate --model qwen2.5-0.5b --preset paper-0.5b" in told
    assert not (tmp_path / "made").exists()


def test_a_missing_aligner_is_said_and_the_generated_adapter_is_written(
    command: list[str],
    tmp_path: Path,
    shelf: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = json.loads(opened(shelf.read_text()))
    for model in listed["models"].values():
        for variant in model["variants"]:
            variant["aligner"] = None
    other = Path(shutil.copytree(shelf.parent, tmp_path / "other"))
    (other / shelf.name).write_text(json.dumps(listed))
    assert main([*command, "--json", "--set", f"pretrained={other}"]) == 0
    captured = capsys.readouterr()
    assert "no aligner was trained behind this generator" in captured.err
    assert json.loads(captured.out)["aligned"] is False


@pytest.mark.integration
def test_the_shipped_generator_makes_what_peft_loads_and_computes_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not pretrained.index_of().exists():
        pytest.skip(f"{pretrained.index_of()} is absent: no trained generator is shipped")
    prompts = [
        f"{name} has {n} apples and gives {n // 2} of them away. How many apples are left?"
        for name in ("Ann", "Bob", "Cem", "Dora")
        for n in range(4, 20, 2)
    ]
    write(tmp_path / "prompts.jsonl", prompts)
    out = tmp_path / "made"
    made = make(capsys, ["--prompts", str(tmp_path / "prompts.jsonl"), "--out", str(out), "--offline"])
    assert made["n"] == 32
    lm = load_language_model(MODELS["smollm2-135m"], offline=True)
    stored = load_adapter(out, lm.sha256)
    ids = torch.tensor([lm.encode("Question: Which gas do plants breathe in?\nAnswer:")])
    with torch.no_grad():
        plain = lm.model(input_ids=ids).logits
        with lm.adapted(stored):
            ours = lm.model(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(lm.model, out, autocast_adapter_dtype=False)(input_ids=ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)

"""Runs that may start from a generated adapter: which start wins, and what is measured."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from cao.model.adapters import load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from tests.agent import tiny_pretrained
from tests.agent.run.generated.generated_runs import LATENT, TTL, WORST, command
from tests.agent.run.tiny_runs import MIX, TTS, run


@pytest.fixture(scope="module")
def bad(lm: LanguageModel) -> Tensor:
    """A residual that makes the letter of the wrong choice likelier."""
    return tiny_pretrained.learned(lm, WORST)


@pytest.mark.usefixtures("use")
def test_a_better_start_is_adopted_where_no_strategy_beats_it(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, lm: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    hopeless = ["no strategy", TTL]
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, hopeless))
    reward, folder = record["reward"], tmp_path / "runs" / record["run_id"]
    assert record["status"] == "improved"
    assert len(record["trials"]) == 2  # a better start does not end the loop
    assert not any(trial["accepted"] for trial in record["trials"])
    assert reward["start"] in ("generated", "aligned")
    assert reward["comparisons"][reward["start"]]["accepted"]
    assert reward["best"] == reward[reward["start"]]
    assert reward["best"]["loss"] < reward["baseline"]["loss"]
    assert reward["best"]["score"] >= reward["baseline"]["score"]
    best = max(("generated", "aligned"), key=lambda name: (reward[name]["score"], -reward[name]["loss"]))
    assert reward["start"] == best
    adapters = record["adapters"]
    assert adapters["generated"]["sha256"] != adapters["aligned"]["sha256"]
    assert (adapters["variant"], adapters["saw_task"], adapters["reason"]) == ("without-echoes", False, "")
    adopted = json.loads((folder / "strategy.json").read_text())
    assert adopted == record["adopted"]
    assert (adopted["start"], adopted["strategy"]) == (best, None)
    assert adopted["adapter"] == {"path": "adapter", "sha256": adapters[best]["sha256"]}
    assert record["test"]["adapted"]["loss"] < record["test"]["baseline"]["loss"]
    assert {"base.jsonl", "generated.jsonl", "aligned.jsonl"} <= {path.name for path in (folder / "items").iterdir()}
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model_folder), folder / "adapter")
    stored = load_adapter(folder / "adapter", lm.sha256)
    live = {name.replace(".default.", "."): value for name, value in model.named_parameters() if ".lora_" in name}
    assert all(torch.equal(live[name].float(), value.to(live[name].dtype)) for name, value in stored.tensors.items())
    header = json.loads((folder / "config.json").read_text())
    assert set(header["pretrained"]) == {"generator", "aligner"}


@pytest.mark.usefixtures("use")
def test_every_family_can_act_on_a_generated_start(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, [TTS, MIX, LATENT, TTL]))
    measured = [trial for trial in record["trials"] if trial["reward"] is not None]
    assert measured == record["trials"]
    assert [trial["strategy"]["family"] for trial in measured] == ["TTS", "LORA", "Latent", "TTL"][: len(measured)]
    if record["trials"][-1]["accepted"]:
        assert record["adopted"]["strategy"] == record["trials"][-1]["strategy"]
    else:
        assert len(measured) == 4


def test_a_harmful_adapter_leaves_the_deployed_model_as_the_start(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    lm: LanguageModel,
    bad: Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_pretrained.shelve(tmp_path / "pretrained", lm, {"full": bad}, {"full": ["arc_easy"]})
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, [MIX]))
    reward = record["reward"]
    assert record["status"] == "no_improvement"
    assert (reward["start"], reward["best"]) == ("base", reward["baseline"])
    assert reward["generated"]["loss"] > reward["baseline"]["loss"]
    assert not reward["comparisons"]["generated"]["accepted"]
    assert record["adopted"] is None
    assert not (tmp_path / "runs" / record["run_id"] / "adapter").exists()
    assert "there is no adapter to mix" in record["trials"][0]["reason"]
    assert record["test"]["adapted"] == record["test"]["baseline"]


@pytest.mark.parametrize("helps", [False, True])
def test_a_hopeless_start_is_dropped_and_never_chosen_and_a_chosen_one_is_measured_on_all(
    helps: bool,
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    lm: LanguageModel,
    good: Tensor,
    bad: Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_pretrained.shelve(tmp_path / "pretrained", lm, {"full": good if helps else bad}, {"full": ["arc_easy"]})
    argv = command(
        questions,
        tiny_model_folder,
        tmp_path,
        ["no strategy", LATENT],
        *("--max-attempts", "1", "--reward", "36", "--adapter", "generated"),
    )
    raced, full = run(capsys, argv), run(capsys, [*argv, "--set", "racing=false"])
    checked = run(capsys, [*argv, "--set", "racing_check=true"])
    reward = raced["reward"]
    assert reward["start"] == full["reward"]["start"] == ("generated" if helps else "base")
    assert reward["dropped_after"] == {"generated": None if helps else 24, "aligned": None}
    assert reward["generated"]["n"] == (36 if helps else 24)
    assert reward["comparisons"]["generated"]["accepted"] == helps
    assert full["reward"]["dropped_after"] == {"generated": None, "aligned": None}
    assert full["reward"]["generated"]["n"] == reward["baseline"]["n"] == reward["best"]["n"] == 36
    counts = raced["evaluations"]
    assert (counts["asked"], counts["answered"], counts["dropped_early"]) == (72, 72 if helps else 60, int(not helps))
    assert (checked["evaluations"]["checked"], checked["evaluations"]["agreed"]) == ((0, 0) if helps else (1, 1))


def test_two_of_four_adapters_race_for_all_and_none_answers_twice(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    lm: LanguageModel,
    bad: Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_pretrained.shelve(tmp_path / "pretrained", lm, {"full": bad}, {"full": ["arc_easy"]})
    four = [
        {"family": "TTS", "num_prompt_batches": 4, "method": method} for method in ("sum_logprobs", "majority_vote")
    ]
    argv = command(questions, tiny_model_folder, tmp_path, four, "--reward", "36", "--adapter", "none")
    raced, again, full = (run(capsys, [*argv, *more]) for more in ([], [], ["--set", "racing=false"]))
    for one, other in zip(raced["trials"], full["trials"], strict=True):
        assert (one["dropped_after"], one["dropped_members"]) == (24, 2)
        assert "dropped after 24 of 36 questions by 2 of 4 adapters" in one["reason"]
        assert not one["accepted"]
        assert not other["accepted"]
        assert (other["dropped_after"], other["dropped_members"]) == (None, None)
    counts, whole = raced["evaluations"], full["evaluations"]
    made = 4
    assert whole["member_answers"] == 36 + made * 36  # the second method asks nothing
    assert counts["member_answers"] == 36 + min(made, 2) * 24
    assert counts["member_answers"] + counts["member_answers_saved"] == 36 + 2 * 4 * 36
    assert counts["reused"] == min(made, 2) * 24
    for key in ("reward", "evaluations", "test", "adopted"):
        assert raced[key] == again[key]


@pytest.mark.usefixtures("use")
def test_a_start_adapter_stays_the_deployed_model_and_is_what_others_must_beat(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    lm: LanguageModel,
    bad: Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tools.generate_lora.tokens import flatten, unflatten

    layout, start = tiny_pretrained.layout_of(lm), lm.fresh_lora(0)
    tensors = unflatten(flatten(start.tensors, layout) + bad, layout)
    carried = type(start)(start.rank, start.alpha, start.targets, tensors, start.base_sha256)
    reference = save_adapter(tmp_path / "store", carried, "tiny")
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    plain = run(capsys, argv)
    record = run(capsys, [*argv, "--set", f"start_adapter={reference.path}"])
    assert record["reward"]["baseline"] != plain["reward"]["baseline"]
    assert record["reward"]["generated"] == plain["reward"]["generated"]
    assert record["reward"]["start"] != "base"
    assert record["test"]["baseline"] != plain["test"]["baseline"]

"""Runs that start from generated adapters: a tiny generator and aligner whose output is chosen by the test."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from agent.config import make_config
from agent.loop import nodes
from agent.loop.request import read_task
from agent.loop.trained import find_trained
from agent.run import main
from cao.machine.assets import minilm_folder
from cao.model.adapters import load_adapter, save_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.types import WEIGHTS_FILE
from tests.agent import tiny_pretrained
from tests.agent.test_run import lines_but_loading

GOLD = "the bird can fly"
TTL = {"family": "TTL", "ttl_steps": 2, "learning_rate": 1e-7, "batch_size": 1, "shuffle_data": True}
LATENT = {"family": "Latent", "slot_steps": 1, "slot_lr": 1e-5}
MIX = {"family": "LORA", "lambda": 0.5}
TTS = {"family": "TTS", "num_prompt_batches": 2, "method": "avg_prompt_embed"}
TASK = "echoes"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose gold answer is worded like the prompts: an adapter that learned the prompts must help."""
    question = "the bird can fly {} times. what can the bird do?"
    rows = [{"question": question.format(n), "choices": ["#7{4q~", GOLD], "answer": 1} for n in range(60)]
    path = tmp_path_factory.mktemp("task") / f"{TASK}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return tiny_pretrained.load(tiny_model_folder)


ASKED = [
    f"Question: the bird can fly {n} times. what can the bird do?\nA. #7{{4q~\nB. {GOLD}\nAnswer:"
    for n in range(60, 80)
]


@pytest.fixture(scope="module")
def good(lm: LanguageModel) -> Tensor:
    """A residual that makes the letter of the right choice likelier."""
    return tiny_pretrained.learned(lm, ASKED, " B")


@pytest.fixture(scope="module")
def bad(lm: LanguageModel) -> Tensor:
    """A residual that makes the letter of the wrong choice likelier."""
    return tiny_pretrained.learned(lm, ASKED, " A")


@pytest.fixture(scope="module")
def shelf(lm: LanguageModel, good: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants: ``full`` saw the task, ``without-echoes`` did not; both help."""
    sources = {"full": ["arc_easy", TASK], f"without-{TASK}": ["arc_easy"]}
    folder = tmp_path_factory.mktemp("pretrained")
    return tiny_pretrained.shelve(folder, lm, {"full": good, f"without-{TASK}": 0.9 * good}, sources)


@pytest.fixture
def use(tmp_path: Path, shelf: Path) -> None:
    """Put the shelf where ``command`` looks for trained parts."""
    (tmp_path / "pretrained").symlink_to(shelf.parent)


def command(questions: Path, model: Path, folder: Path, strategies: list[Any], *more: str) -> list[str]:
    plan = folder / "strategies.jsonl"
    plan.write_text("".join(json.dumps(strategy) + "\n" for strategy in strategies))
    return [
        *("--task", str(questions), "--out", str(folder / "runs"), "--model", tiny_pretrained.MODEL, "--offline"),
        *("--set", f"model_path={model}", "--policy", "fixed", "--set", f"policy_settings.strategy_file={plan}"),
        *("--support", "8", "--reward", "12", "--test", "12", "--max-attempts", str(len(strategies)), "--json"),
        *("--set", f"pretrained={folder / 'pretrained'}", *more),
    ]


def run(capsys: pytest.CaptureFixture[str], argv: list[str]) -> dict[str, Any]:
    code = main(argv)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    record: dict[str, Any] = json.loads(captured.out)
    return record


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


@pytest.mark.usefixtures("use")
def test_generators_read_questions_and_the_model_reads_prompts(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, apply, align = {}, nodes.apply_strategy, nodes.align_lora

    def applied(strategy: Any, prompts: list[str], *rest: Any, **options: Any) -> Any:
        seen[strategy.family] = prompts
        return apply(strategy, prompts, *rest, **options)

    def aligned(generated: Any, prompts: list[str], **options: Any) -> Any:
        seen["align"] = prompts
        return align(generated, prompts, **options)

    monkeypatch.setattr(nodes, "apply_strategy", applied)
    monkeypatch.setattr(nodes, "align_lora", aligned)
    run(capsys, [*command(questions, tiny_model_folder, tmp_path, [TTS, TTL]), "--accept", "any"])
    assert all(text.startswith("the bird can fly") for text in seen["TTS"])
    for family in ("TTL", "align"):
        assert all(text.startswith("Question: the bird") and text.endswith("Answer:") for text in seen[family])


@pytest.mark.parametrize(
    ("option", "made", "words"),
    [("none", [], "no adapter was asked for"), ("generated", ["generated"], "no alignment was asked for")],
)
@pytest.mark.usefixtures("use")
def test_what_was_not_asked_for_is_not_made(
    option: str,
    made: list[str],
    words: str,
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, [LATENT], "--adapter", option))
    assert [name for name in ("generated", "aligned") if record["adapters"][name]] == made
    assert [name for name in ("generated", "aligned") if record["reward"][name]] == made
    assert words in record["adapters"]["reason"]
    assert record["config"]["adapter"] == option
    assert record["reward"]["start"] == (made or ["base"])[0]
    items = tmp_path / "runs" / record["run_id"] / "items"
    assert {path.stem for path in items.iterdir()} >= {"base", *made}
    assert not (items / "aligned.jsonl").exists()


@pytest.mark.usefixtures("use")
def test_the_variant_can_be_named_and_is_recorded(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    record = run(capsys, [*argv, "--set", "variant=full"])
    assert (record["adapters"]["variant"], record["adapters"]["saw_task"]) == ("full", True)
    assert main([*argv, "--set", "variant=without-nothing"]) == 2
    assert "without-nothing" in capsys.readouterr().err
    assert main([*argv, "--set", "variant=../../elsewhere"]) == 2


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
    argv = command(questions, tiny_model_folder, tmp_path, ["no strategy"], "--reward", "36", "--adapter", "generated")
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


@pytest.mark.usefixtures("use")
def test_resume_refuses_other_trained_parts(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    lm: LanguageModel,
    good: Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    record = run(capsys, argv)
    tiny_pretrained.shelve(tmp_path / "other", lm, {"full": 0.8 * good}, {"full": ["arc_easy"]})
    for other, words in (("other", "was started with aligner"), ("absent", "now it is none")):
        (tmp_path / "pretrained").unlink()
        (tmp_path / "pretrained").symlink_to(tmp_path / other)
        assert main([*argv, "--resume", record["run_id"]]) == 2
        captured = capsys.readouterr()
        assert words in captured.err
        assert lines_but_loading(captured.err) == 1
        assert captured.out == ""
        with pytest.raises(Exception, match="was started with"):
            replay(tmp_path / "runs", record["run_id"])


def replay(out: Path, run_id: str) -> int:
    from agent.replay import replay as fork

    return fork(out, run_id, "decide")


@pytest.mark.usefixtures("use")
def test_a_replay_goes_on_from_the_measured_start(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, [LATENT]))
    assert replay(tmp_path / "runs", record["run_id"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Start: the {record['reward']['start']} adapter, accuracy" in printed
    [fork] = [path for path in (tmp_path / "runs").iterdir() if path.name != record["run_id"]]
    again = json.loads((fork / "run.json").read_text())
    assert again["reward"] == record["reward"]
    assert again["test"] == record["test"]


@pytest.mark.usefixtures("use")
def test_a_kill_inside_the_first_measurement_goes_on_behind_what_was_measured(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from agent.loop import reward

    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    measure, calls = reward.evaluate, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:  # base.jsonl is written, generated.jsonl is not
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(reward, "evaluate", interrupted)
    assert main(argv) == 130
    capsys.readouterr()
    [folder] = (tmp_path / "runs").iterdir()
    assert (folder / "items" / "base.jsonl").exists()
    assert not (folder / "items" / "generated.jsonl").exists()
    resumed, needed = run(capsys, [*argv, "--resume", folder.name]), len(calls) - 2
    undisturbed = run(capsys, argv)
    assert needed == len(calls) - 2 - needed - 1  # the deployed model was not measured again
    assert resumed["reward"] == undisturbed["reward"]
    assert resumed["test"] == undisturbed["test"]


@pytest.mark.usefixtures("use")
def test_a_tampered_generator_is_named_before_anything_is_written(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    path = shelf.parent / f"generator-without-{TASK}.safetensors"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept[:-9] + bytes([kept[-9] ^ 64]) + kept[-8:])
        assert main(argv) == 2
    finally:
        path.write_bytes(kept)
    captured = capsys.readouterr()
    assert path.name in captured.err
    assert lines_but_loading(captured.err) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("use")
def test_adapters_that_cannot_be_measured_are_named_and_passed_over(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from agent.loop import reward
    from cao.errors import NotApplicableError

    measure = reward.evaluate

    def refusing(task: Any, examples: Any, adapted: Any, *rest: Any, **options: Any) -> Any:
        if adapted.members != (None,):
            raise NotApplicableError("the output is not finite")
        return measure(task, examples, adapted, *rest, **options)

    monkeypatch.setattr(reward, "evaluate", refusing)
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, ["no strategy"]))
    assert record["status"] == "no_improvement"
    assert record["reward"]["start"] == "base"
    assert record["reward"]["generated"] is None
    assert record["adapters"]["generated"] is not None
    assert "the generated adapter could not be measured: the output is not finite" in record["adapters"]["reason"]
    assert (tmp_path / "runs" / record["run_id"] / "adapters").exists()


def support(record: dict[str, Any]) -> list[str]:
    """The support prompts of a run."""
    _, splits, _ = read_task(make_config(None, record["config"], []))
    return [example.prompt for example in splits.support]


def test_the_stored_adapter_is_the_generators(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, use: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The detour over the run's files changes nothing: conditioning in, adapter out, as called by hand."""
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, ["no strategy"]))
    folder = tmp_path / "runs" / record["run_id"]
    trained = find_trained(record["model_sha256"], TASK, "auto", align=False, folder=str(tmp_path / "pretrained"))
    assert trained.generator is not None
    expected = trained.generator.generate(*Encoder(minilm_folder()).condition(support(record)))
    made = load_adapter(folder / record["adapters"]["generated"]["path"])
    assert all(torch.equal(made.tensors[name], value) for name, value in expected.tensors.items())
    assert (folder / record["adapters"]["generated"]["path"] / WEIGHTS_FILE).exists()


@pytest.mark.usefixtures("use")
def test_repeated_prompts_make_the_same_adapter_and_are_reported(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "the bird can fly {} times. what can the bird do?"
    rows = [
        {"question": question.format(n), "choices": [wrong, GOLD], "answer": 1}
        for n in range(30)
        for wrong in ("#7{4q~", "#8{4q~")
    ]
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = [*command(path, tiny_model_folder, tmp_path, ["no strategy"]), "--support", "20"]
    record = run(capsys, argv)
    folder = tmp_path / "runs" / record["run_id"]
    [caveat] = [text for text in record["adapters"]["caveats"] if "repeat another one" in text]
    states, mask = Encoder(minilm_folder()).condition(support(record))
    repeats = int(caveat.split()[0])
    assert repeats > 0
    assert len(states) - repeats == len(states.unique(dim=0))
    used = [i for i in range(len(states)) if not any(torch.equal(states[i], states[j]) for j in range(i))]
    trained = find_trained(record["model_sha256"], "twice", "auto", align=False, folder=str(tmp_path / "pretrained"))
    assert trained.generator is not None
    expected = trained.generator.generate(states[used], mask[used])
    made = load_adapter(folder / record["adapters"]["generated"]["path"])
    assert all(torch.equal(made.tensors[name], value) for name, value in expected.tensors.items())
    assert caveat in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "starts", "variant"),
    [([], 3, "without-echoes"), (["--adapter", "generated"], 2, "without-echoes"), (["--adapter", "none"], 1, None)],
)
@pytest.mark.usefixtures("use")
def test_the_plan_says_what_the_loop_may_start_from(
    more: list[str],
    starts: int,
    variant: str | None,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["--task", str(questions), "--model", tiny_pretrained.MODEL, "--reward", "12", "--test", "12", "--dry-run"]
    argv += ["--support", "8", "--out", str(tmp_path / "runs"), "--pretrained", str(tmp_path / "pretrained"), *more]
    plan = run(capsys, [*argv, "--json"])
    assert (plan["starts"], plan["variant"]) == (starts, variant)
    low, high = plan["estimated_seconds"]["start"]
    assert 0 < low <= high
    assert main(argv) == 0
    assert ("whichever measures best" in " ".join(capsys.readouterr().out.replace("│", " ").split())) == (starts > 1)

"""What the loop starts from, and how people are told."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.loop import conclude, observations
from agent.loop.start import best_start
from agent.loop.state import load_state
from agent.record import starting, wording
from agent.record.events import evaluations_text, sentence
from agent.record.page.report import write_report
from agent.record.reading import read_run
from agent.record.schema import RunRecord, Together
from agent.trace import main as trace
from cao.types import AdaptedModel, AdapterRef, Comparison, Reward, Trial
from tests.agent import run_folders as made


def reward(score: float, loss: float) -> Reward:
    return Reward.model_validate(made.reward(score, loss))


def verdict(accepted: bool) -> Comparison:
    return Comparison.model_validate(made.comparison(0.0, 0.0, 0.5, accepted))


@pytest.mark.parametrize(
    ("scores", "accepted", "start"),
    [
        ({}, {}, "base"),
        ({"generated": (0.9, 0.1)}, {"generated": False}, "base"),  # better by its number, not by the rule
        ({"generated": (0.5, 1.2)}, {"generated": True}, "generated"),
        ({"generated": (0.6, 1.2), "aligned": (0.5, 0.9)}, {"generated": True, "aligned": True}, "generated"),
        ({"generated": (0.5, 1.2), "aligned": (0.5, 0.9)}, {"generated": True, "aligned": True}, "aligned"),
        ({"generated": (0.5, 1.2), "aligned": (0.9, 0.1)}, {"generated": True, "aligned": False}, "generated"),
        ({"generated": (0.5, 1.2), "aligned": (0.5, 1.2)}, {"generated": True, "aligned": True}, "generated"),
    ],
)
def test_the_best_start_is_never_one_that_does_not_beat_the_deployed_model(
    scores: dict[str, tuple[float, float]], accepted: dict[str, bool], start: str
) -> None:
    rewards = {"base": reward(0.4, 1.3), **{name: reward(*pair) for name, pair in scores.items()}}
    assert best_start(rewards, {name: verdict(yes) for name, yes in accepted.items()}) == start


def test_the_start_is_told_with_its_numbers_and_its_generator() -> None:
    run = RunRecord.model_validate(made.started_run("one"))
    assert starting.start_sentence(run) == (
        "Start: the aligned adapter, accuracy 41.7 % → 45.8 % (p = 0.23), log-loss 1.5702 → 1.3602 (p < 0.001), "
        "made by generator “without-gsm8k”, by name never trained on this task, without a gradient. "
        "The generated adapter had accuracy 41.7 % → 44.8 % (p = 0.23), log-loss 1.5702 → 1.4102 (p = 0.031)."
    )
    assert wording.verdict(run).startswith("TTL(ttl_steps=25, ")
    assert "on the aligned adapter was adopted after 3 attempts. Accuracy" in wording.verdict(run)
    seen = run.model_copy(update={"adapters": run.adapters.model_copy(update={"saw_task": True})})
    assert "“without-gsm8k”, trained on a task of this name, without" in starting.start_sentence(seen)
    assert starting.start_sentence(RunRecord.model_validate(made.record("one"))) == ""


def test_a_start_that_was_dropped_is_not_compared_by_its_accuracy_on_few_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = made.dropped_start("one")
    run = RunRecord.model_validate(record)
    told = "dropped after 24 of 96 questions: accuracy −8.3 points, log-loss +0.1402"
    assert starting.start_sentence(run).endswith(f"The generated adapter was {told} on these.")
    said = sentence("choose", made.start_event(record))
    assert "generated adapter dropped after 24; aligned adapter accuracy 45.8 %, log-loss 1.3602" in said
    assert "1 start dropped early" in evaluations_text(run)
    lines = made.events(made.record("one"))
    lines[9]["data"] = made.start_event(record)
    path = made.write_run(tmp_path, "one", record, lines)
    assert trace(["show", "one", "--out", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "generated adapter −8.3 points — 1.00 — +0.1402 1.00 dropped after 24 questions" in shown
    made.write_run(tmp_path, "two")
    assert trace(["diff", "one", "two", "--out", str(tmp_path)]) == 0
    assert "generated adapter dropped after 24 —" in " ".join(capsys.readouterr().out.split())
    section = write_report(path).read_text(encoding="utf-8").split("<h2>The start</h2>")[1].split("</section>")[0]
    assert "generated: 33.34 %" in section  # the deployed model's 41.67 % and the paired change
    assert re.findall(r'<g class="([\w-]+)">', section) == ["start", "dropped", "taken"] * 2
    assert "drawn at the deployed model plus the change so far" in section
    for text in (shown, section, starting.start_sentence(run)):
        assert "75.0 %" not in text
    (path / "run.json").unlink()
    assert read_run(path).reward.dropped_after == {"generated": 24, "aligned": None}
    measured = load_state({"starts": made.start_event(record)["starts"]})["starts"]["generated"]
    assert measured is not None
    assert observations.adapter_sentence("generated", measured, chosen=False) == (
        "The generated adapter changes the deployed model's accuracy by -8.3 points and its log-loss by +0.1402 on the "
        "first 24 reward questions, after which it was dropped; the current model does not carry it."
    )


def test_a_start_that_was_adopted_alone_is_said_to_be() -> None:
    record = made.started_run("one")
    record["adopted"]["strategy"] = None
    record["trials"] = record["trials"][:2]
    told = wording.verdict(RunRecord.model_validate(record))
    assert told.startswith("The aligned adapter was adopted, no proposal beat it after 2 attempts. Accuracy on")


def test_a_deployed_model_that_nothing_beat_is_said_to_stay() -> None:
    record = made.started_run("one")
    record["reward"]["start"], record["status"], record["adopted"] = "base", "no_improvement", None
    run = RunRecord.model_validate(record)
    assert starting.start_sentence(run).startswith("Start: the deployed model. The generated adapter had accuracy")
    assert wording.verdict(run).startswith(
        "Neither the generated adapter nor the aligned adapter nor any of 2 attempts beat the deployed model on the "
        "reward questions; 1 attempt could not be measured; it is left as it was"
    )


def test_an_attempt_that_was_not_measured_is_not_said_to_have_beaten_nothing() -> None:
    record = made.started_run("one")
    record["reward"]["start"], record["status"], record["adopted"] = "base", "no_improvement", None
    for trial in record["trials"]:
        trial |= {"reward": None, "comparison": None, "accepted": False, "reason": "not tried: no time"}
    told = wording.verdict(RunRecord.model_validate(record))
    assert told.startswith(
        "Neither the generated adapter nor the aligned adapter beat the deployed model on the reward questions; "
        "3 attempts could not be measured; it is left as it was"
    )
    record["reward"]["generated"] = record["reward"]["aligned"] = None
    told = wording.verdict(RunRecord.model_validate(record))
    assert told.startswith("None of 3 attempts could be measured against the deployed model; it is left as it was")


def test_events_say_what_guessing_has() -> None:
    run = made.started_run("one")
    run["reward"]["baseline"] |= {"chance": 0.25, "uniform_loss": 1.38629}
    assert sentence("choose", made.start_event(run)).startswith(
        "start: the aligned adapter (on 96 questions, guessing 25.0 % and 1.3863: deployed model accuracy 41.7 %"
    )


def test_events_say_the_generator_the_start_and_what_went_wrong() -> None:
    run = made.started_run("one")
    assert sentence("choose", made.start_event(run)) == (
        "start: the aligned adapter (on 96 questions: deployed model accuracy 41.7 %, log-loss 1.5702; "
        "generated adapter accuracy 44.8 %, log-loss 1.4102; aligned adapter accuracy 45.8 %, log-loss 1.3602)"
    )
    assert sentence("generate", {"adapters": run["adapters"]}) == (
        "adapter abababababab by generator “without-gsm8k”, by name never trained on this task; "
        "2 of 32 prompts were blank"
    )
    assert sentence("align", {"adapters": run["adapters"]}) == "adapter cdcdcdcdcdcd"
    nothing = {"generated": None, "aligned": None, "reason": "no adapter was asked for (--adapter none)"}
    assert sentence("generate", {"adapters": nothing}) == "no adapter: no adapter was asked for (--adapter none)"
    assert sentence("align", {"adapters": nothing}) == "nothing to align"


def test_the_report_pictures_the_start(tmp_path: Path) -> None:
    plain = write_report(made.write_run(tmp_path, "plain")).read_text(encoding="utf-8")
    assert "<h2>The start</h2>" not in plain
    html = write_report(made.write_run(tmp_path, "one", made.started_run("one"))).read_text(encoding="utf-8")
    section = html.split("<h2>The start</h2>")[1].split("</section>")[0]
    assert "Start: the aligned adapter" in section
    assert "2 of 32 prompts were blank" in section
    assert re.findall(r'<g class="([\w-]+)">', section) == ["start", "better", "taken"] * 2
    accuracy = section.split("<figure>")[1]
    better, taken = (
        float(re.findall(rf'<g class="{name}">.*?cy="([\d.]+)"', accuracy, re.DOTALL)[0])
        for name in ("better", "taken")
    )
    base = float(re.findall(r'class="base"[^>]*y1="([\d.]+)"', accuracy)[0])
    assert taken < better < base  # SVG's y axis points down
    loop = html.split('<section id="attempts">')[1].split("</section>")[0]
    assert "start: 45.83 %" in loop  # the attempts are compared with the start that was taken


def test_intervals_of_the_start_are_paired_with_the_deployed_model(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one", made.started_run("one"))
    for name, losses in (("base", [1.0, 2.0, 3.0]), ("generated", [1.1, 1.8, 2.5]), ("aligned", [0.5, 1.8, 2.4])):
        made.write_items(path, name, losses, [True, False, True])
    section = write_report(path).read_text(encoding="utf-8").split("<h2>The start</h2>")[1].split("</section>")[0]
    assert section.count('class="whisker"') == 3 + 2  # three accuracies, two changes of the log-loss
    assert "paired change from the deployed model" in section


def test_a_killed_run_keeps_its_start(tmp_path: Path) -> None:
    path = made.write_unfinished(tmp_path, "killed", keep=9)
    run = made.started_run("killed")
    lines = made.events(made.record("killed"))[:10]
    lines[9]["data"] = made.start_event(run)
    made.write_trace(path, lines)
    found = read_run(path)
    assert found.reward.start == "aligned"
    assert (found.reward.started() or made).score == 0.4583
    assert "Start: the aligned adapter" in starting.start_sentence(found)
    assert write_report(path).exists()


def test_trace_shows_the_start_and_diff_sets_two_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.write_run(tmp_path, "one", made.started_run("one"))
    made.write_run(tmp_path, "two")
    assert trace(["show", "one", "--out", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "aligned adapter 45.8 % 35.9 – 55.8 % 0.23 1.3602 −0.2100 < 0.001 the loop starts here" in shown
    assert "2 of 32 prompts were blank" in shown
    assert trace(["diff", "one", "two", "--out", str(tmp_path)]) == 0
    compared = " ".join(capsys.readouterr().out.split())
    assert "start aligned base" in compared
    assert "generator without-gsm8k —" in compared
    assert "aligned adapter 41.7 → 45.8 %" in compared


def test_what_several_adapters_answer_together_is_told_by_paths_inside_the_run(tmp_path: Path) -> None:
    refs = [AdapterRef(path=f"{tmp_path}/adapters/{name}", sha256=name, base_sha256="b", rank=4) for name in "xy"]
    model = AdaptedModel(members=tuple(refs), method="avg_sim_score", centroids=f"{tmp_path}/adapters/r.safetensors")
    state = {"best": model, "start": "base", "trials": [Trial.model_validate(made.record("x")["trials"][2])]}
    bench: Any = SimpleNamespace(folder=tmp_path, adapted=lambda _: model)
    adopted = conclude.adopted_of(cast(Any, state), bench)
    assert adopted.adapter is None
    assert adopted.together == Together(
        adapters=("adapters/x", "adapters/y"), method="avg_sim_score", routes="adapters/r.safetensors"
    )

"""The report: the outcome in numbers, whole for every run, and safe with hostile text."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.record import commands, wording
from agent.record.measurements import TestPart
from agent.record.page.report import write_report
from agent.record.reading import read_run
from agent.record.schema import Run
from cao.encodings import visible
from cao.errors import InputError
from tests.agent import run_folders as made
from tests.agent.record.report_pages import report


def test_the_report_says_the_outcome_in_numbers(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    _, page = report(path)
    for words in (
        "from 45.5 % to 48.5 % (+3.0 points",
        "exact McNemar p = 0.26",
        "the log-loss from 1.3712 to 1.3455 (−0.0257; p < 0.001)",
        "Drifted to something new: no known task explains the prompts (p = 0.002, level 0.05).",
        "0.0191 in log-loss and 8.1 points",
        "took 0.31 % of the time of the run's last process",
        "evaluate 42 s (24 %)",
        "python -m agent.run --task gsm8k --test 396",
        "no generator for smollm2-135m",
    ):
        assert words in page.text


def test_the_test_part_is_set_beside_chance(tmp_path: Path) -> None:
    record = made.record("one")
    record["test"]["chance"] = 0.25
    assert "Chance 25.0 %" in report(made.write_run(tmp_path, "one", record))[1].text
    assert "Chance" not in report(made.write_run(tmp_path, "free"))[1].text


def test_the_report_needs_nothing_but_itself_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    loading = ("src", "xlink:href", "action")
    assert not [name for name, _ in page.attributes if name in loading or name.startswith("on")]
    links = [value for name, value in page.attributes if name == "href"]
    assert set(links) <= {f"#{value}" for name, value in page.attributes if name == "id"}  # all lead to a part of it
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    script = html.split("<script>")[1].split("</script>")[0]
    allowed = f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{allowed}'"
    assert ("content", policy) in page.attributes
    assert page.tags.count("script") == 1


def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    calm, safe = report(made.write_run(tmp_path, "calm"))
    html, page = report(made.write_run(tmp_path, "hostile", made.hostile("hostile")))
    assert set(page.tags) == set(safe.tags)  # no element came in with the text
    assert {name for name, _ in page.attributes} == {name for name, _ in safe.attributes}
    assert "<script>alert('x')</script>{{ 7*7 }}" in page.text  # as text, and no template was run on it
    assert r"\x1b[31mred" in page.text
    assert r"\u202eright to left\u2066 zero\u200bwidth \x00" in page.text
    assert not [char for char in html if char != "\n" and visible(char) != char]
    assert len(html) < len(calm) + 60_000  # 100 kB of a policy's text do not fill the page


@given(st.text(st.characters(), max_size=60))
def test_visible_text_has_nothing_hidden_and_keeps_the_rest(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    shown.encode("utf-8")
    if text.isascii() and text.isprintable():
        assert shown == text


def test_an_unfinished_run_has_a_report_with_its_resume_command(tmp_path: Path) -> None:
    _, page = report(made.write_unfinished(tmp_path, "killed", keep=13, cut='{"seq'))
    assert "Not finished" in page.text
    assert "the last step seen was decide" in page.text
    assert f"python -m agent.run --resume killed --out {tmp_path}" in page.text


@pytest.mark.parametrize("keep", [0, 1, 2, 9, 10])
def test_a_run_killed_anywhere_has_a_report(tmp_path: Path, keep: int) -> None:
    _, page = report(made.write_unfinished(tmp_path, "killed", keep))
    assert ("The start has not been measured yet." in page.text) == (keep < 10)


@pytest.mark.parametrize("key", sorted(made.record("x")))
def test_a_key_that_an_older_version_lacks_leaves_the_report_whole(tmp_path: Path, key: str) -> None:
    record = made.older("old")
    record.pop(key, None)
    assert report(made.write_run(tmp_path, "old", record))[1].text


def test_paired_intervals_come_from_the_items(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    before, _ = report(path)
    made.write_all_items(path)
    after, page = report(path)
    assert (before.count('class="whisker"'), after.count('class="whisker"')) == (3, 5)
    assert re.search(r"95 % interval [+−]\d\.\d to [+−]\d\.\d; exact McNemar", page.text)


def test_a_damaged_run_leaves_the_old_report(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    before, _ = report(path)
    (path / "run.json").write_text("{")
    with pytest.raises(InputError):
        write_report(path)
    assert (path / "report.html").read_text(encoding="utf-8") == before
    assert not list(path.glob(".report*"))


def test_what_to_do_next_follows_the_outcome(tmp_path: Path) -> None:
    def advice(**change: object) -> str:
        return " ".join(commands.next_step(read_run(path).model_copy(update=change), Path("runs")))

    path = made.write_run(tmp_path, "one")
    assert "The log-loss gain holds on test, but the accuracy gain could be chance" in advice()
    sure = made.record("x")["test"] | {"p_value": 0.01}
    assert "--adapter runs/one/adapter" in advice(test=TestPart.model_validate(sure))
    worse = sure | {"adapted": made.side(0.4, 1.4)}
    assert "Do not deploy" in advice(test=TestPart.model_validate(worse))
    surer = sure | {"loss_change": 3.2, "loss_p_value": 0.992}
    assert "Do not rely on it: the log-loss on test is worse" in advice(test=TestPart.model_validate(surer))
    assert "--reward 264" in advice(status="no_improvement")
    assert "--max-attempts 6" in advice(status="no_improvement", smallest_detectable=None)
    assert "--policy random" in advice(status="no_improvement", trials=read_run(path).trials[:1])
    assert "--resume one" in advice(status="unfinished")
    assert (
        wording.headline(Run(run_id="x", status="improved", test=TestPart.model_validate(worse)))
        == "Improved on reward, worse on test"
    )


def test_no_cell_of_a_table_breaks_letter_by_letter(tmp_path: Path) -> None:
    html, _ = report(made.write_run(tmp_path, "one", made.started_run("one")))
    style = html.split("<style>")[1].split("</style>")[0]
    breaking = [
        s.strip() for rule in re.findall(r"([^{}]*)\{[^}]*overflow-wrap: anywhere", style) for s in rule.split(",")
    ]
    assert "td" not in breaking
    assert "td.text" in breaking
    assert re.search(r"td\.text \{ min-width: \d{3}px", style)
    assert re.search(r"\.setting \{ white-space: nowrap", style)
    assert re.search(r'<span class="setting">learning_rate=\S+</span>', html)  # a cut rate may read as 0.000
    assert html.count("<table>") == html.count('<div class="scroll"><table>')


CALL = {"node": "describe", "event": "call", "data": {"operation": "chat", "provider": "openai", "model": "m"}}


@pytest.mark.parametrize(
    ("forms", "events", "told"),
    [
        ({"describer": None, "policy": None}, [], "None was asked."),
        ({"describer": None, "policy": None}, [CALL], "The describer asked a server"),
        ({"describer": "text", "policy": "text"}, [], "The describer and the policy asked a server"),
    ],
)
def test_who_asked_a_server_is_told_by_what_was_asked_and_not_by_names(
    tmp_path: Path, forms: dict[str, str | None], events: list[dict[str, object]], told: str
) -> None:
    record = made.record("one") | {"describer": "openai" if told == "None was asked." else "facts"}
    record["request_forms"] = forms
    page = report(made.write_run(tmp_path, "one", record, [*made.events(record), *events]))[1]
    assert f"Servers {told}" in page.text


def test_a_fork_does_not_count_what_the_run_before_it_asked(tmp_path: Path) -> None:
    record = made.record("one") | {"request_forms": {"describer": "text", "policy": None}}
    own = [event for event in made.events(record) if event["node"] != "describe"]
    assert "Servers None was asked." in report(made.write_run(tmp_path, "one", record, own))[1].text


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("not drifted: gsm8k explains the prompts", "Nothing was measured: not drifted: gsm8k explains the prompts."),
        ("no answers are known", "Nothing was measured: no answers are known."),
    ],
)
def test_a_run_that_measured_nothing_says_its_own_reason(tmp_path: Path, reason: str, told: str) -> None:
    record = made.record("one") | {"status": "no_improvement", "reason": reason, "trials": [], "adopted": None}
    record |= {"test": None, "reward": {}}
    page = report(made.write_run(tmp_path, "one", record))[1]
    assert told in page.text
    assert "without drift" not in page.text
    assert "No attempt was made." in page.text


def test_a_run_whose_time_had_no_room_for_an_attempt_says_so(tmp_path: Path) -> None:
    record = made.record("one") | {"status": "no_improvement", "trials": [], "attempts": 0, "adopted": None}
    record["config"]["minutes"] = 2.0
    page = report(made.write_run(tmp_path, "one", record))[1]
    assert page.text.count("No attempt was made: the time had no room for one") == 2  # the second one for the table
    assert "0 attempts" not in page.text
    assert "The time had no room for an attempt; give it more." in page.text
    assert "--minutes 4.0" in page.text
    record["reward"]["generated"] = made.reward(0.4, 1.4)
    one = wording.verdict(Run.model_validate(record))
    assert one.startswith("The generated adapter did not beat the deployed model")
    record["reward"]["aligned"] = made.reward(0.4, 1.4)
    both = wording.verdict(Run.model_validate(record))
    assert both.startswith("Neither the generated adapter nor the aligned adapter beat the deployed model")
    started = made.started_run("two")
    started["adopted"]["strategy"], started["trials"] = None, []
    alone = wording.verdict(Run.model_validate(started))
    assert alone.startswith("The aligned adapter was adopted. Accuracy")
    ttl, calibrate = ({"family": "TTL", "ttl_steps": 25}, {"family": "Calibrate", "prior": "choice"})
    started["adopted"] |= {"strategy": calibrate, "strategies": [ttl, calibrate]}
    both = wording.verdict(Run.model_validate(started))
    assert both.startswith(
        "TTL(ttl_steps=25) and on it Calibrate(prior=choice) on the aligned adapter were adopted. Accuracy"
    )


def test_headline_and_advice_agree_where_the_log_loss_is_worse(tmp_path: Path) -> None:
    record = made.record("one")
    record["test"] |= {"p_value": 0.01, "loss_change": 0.3, "loss_p_value": 0.99}
    page = report(made.write_run(tmp_path, "one", record))[1]
    assert "Improved on reward, log-loss worse on test" in page.text
    assert ("class", "doubtful") in page.attributes
    run = Run.model_validate(record)
    sentence, command = commands.next_step(run, Path("runs"))
    assert "measure on more questions" in sentence  # the rule that guards against it was in use
    assert "--accept" not in command
    assert "--test 396" in command
    loose = run.model_copy(update={"config": {**run.config, "accept": "any"}})
    sentence, command = commands.next_step(loose, Path("runs"))
    assert "the default rule of acceptance guards against that" in sentence
    assert "--accept" not in command  # the default one again


def test_an_accuracy_that_did_not_change_is_no_gain_that_could_be_chance() -> None:
    record = made.record("one")
    record["test"] |= {"adapted": made.side(0.455, 1.3455), "p_value": 1.0}
    sentence, _ = commands.next_step(Run.model_validate(record), Path("runs"))
    assert sentence.startswith("The log-loss gain holds on test, and the accuracy did not change there; measure")
    record["test"] |= {"loss_p_value": 0.4}
    sentence, _ = commands.next_step(Run.model_validate(record), Path("runs"))
    assert sentence.startswith("Nothing is established on test: the accuracy did not change there; measure")


PROMPT = {**made.TTL, "peft": "prompt", "virtual_tokens": 4}
CHOICE = {"prior": "choice", "strength": 1.0, "length": "none"}
MEMBERS = {"adapters": ["adapters/aa", None], "method": "sum_logprobs", "routes": None}


@pytest.mark.parametrize(
    ("adopted", "config"),
    [
        ({"latent": {"slot_steps": 5, "slot_lr": 0.1}}, {}),
        ({"answer_rule": CHOICE}, {}),
        ({"strategies": [{**made.TTL, "inputs": "test"}]}, {}),
        ({"strategies": [PROMPT]}, {}),
        ({"adapter": None, "together": MEMBERS}, {}),
        ({}, {"start_adapter": "/somewhere/carried"}),
    ],
)
def test_a_gain_that_takes_more_than_a_folder_is_handed_over_whole(
    tmp_path: Path, adopted: dict[str, object], config: dict[str, object]
) -> None:
    record = made.record("one")
    record["test"]["p_value"] = 0.01
    alone = report(made.write_run(tmp_path, "alone", record | {"run_id": "alone"}))[1].text
    assert "ordinary PEFT folder" in alone
    assert "merged into the weights the adapter costs nothing" in alone
    record["adopted"] |= adopted
    record["config"] |= config
    page = report(made.write_run(tmp_path, "one", record))[1].text
    assert "it takes more than an adapter, and this hands all of it over" in page
    assert "python -m agent.export one --to adopted-one" in page
    assert "ordinary PEFT folder" not in page
    assert "costs nothing" not in page

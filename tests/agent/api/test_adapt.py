"""``adapt`` on a program's own lists: the record, the progress, the model, and the command's own words."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent.record.wording import verdict
from agent.run import main
from cao import adapt, load
from cao.errors import InputError, UnavailableError
from cao.types import AdaptedModel, AnswerRule
from tests.agent.api.conftest import Made
from tests.agent.run.tiny_runs import TTL, echo_rows, strategies, write_rows

CHOICES = ["yes", "no"]


def test_a_run_on_a_list_is_a_run_on_a_file(made: Made) -> None:
    record, folder = made.run.record, made.run.folder
    assert (record.status, record.splits) == ("improved", {"support": 8, "reward": 24, "test": 12})
    assert (record.adopted.strategies[0]["family"], record.adopted.answer_rule.prior) == ("TTL", "batch")
    assert folder.is_absolute()
    assert folder.name == record.run_id
    assert "<html" in made.run.report.read_text()
    task = Path(record.config["task"])
    assert task.read_text() == write_rows(folder.parent / "same.jsonl", echo_rows()).read_text()


def test_progress_is_told_step_by_step(made: Made) -> None:
    told = [(step.kind, step.name) for step in made.steps]
    nodes = ["describe", "detect", "generate", "align", "choose", "decide", "apply", "evaluate", "conclude"]
    assert [name for kind, name in told if kind == "end" and name in nodes] == nodes
    assert ("start", "loading the language model") in told
    done = [step.done for step in made.steps if step.name == "test-time learning"]
    assert done == sorted(done)
    assert done[-1] == 10
    (conclusion,) = [step for step in made.steps if (step.kind, step.name) == ("end", "conclude")]
    assert conclusion.text.startswith("improved: test accuracy")
    assert conclusion.data["test"]["adapted"]["n"] == 12
    assert conclusion.seconds is not None


def test_the_model_answers_as_the_run_scored(made: Made) -> None:
    answers = made.run.model.answer_all(made.questions())
    assert [(one.choice, list(one.scores)) for one in answers] == [
        (choice, pytest.approx(scores, abs=1e-5)) for choice, scores in made.scored()
    ]
    first = made.questions()[0]
    alone = made.run.model.answer(first["question"], first["choices"])
    assert alone.text == first["choices"][made.scored()[0][0]]
    assert alone.scores == pytest.approx(answers[0].scores, abs=1e-5)


def test_the_model_writes_where_there_are_no_choices(made: Made) -> None:
    model = made.run.model
    written = model.answer("what can the bird do?")
    assert written.choice is None
    assert written.text
    assert written.confidence > 0
    text = model.generate("the bird can", max_new_tokens=4)
    assert model.generate("the bird can", max_new_tokens=8).startswith(text)
    assert model.generate("the bird can", max_new_tokens=8, stop=[text[-1]]) == text[: text.index(text[-1])]


@pytest.mark.parametrize(
    ("question", "choices", "words"),
    [
        (" ", CHOICES, "question 1: 'question' is blank"),
        (7, CHOICES, "question 1: 'question' must be a text"),
        ("q", ["yes", "yes"], "question 1: a choice appears more than once"),
        ("q", ["yes", "\ud800"], "half of a surrogate pair"),
    ],
)
def test_what_is_no_question_is_said(made: Made, question: Any, choices: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made.run.model.answer(question, choices)


def test_a_chat_is_asked_as_its_last_question_behind_what_was_said(made: Made) -> None:
    chat = [
        {"role": "user", "content": "Who flies?"},
        {"role": "assistant", "content": "The bird."},
        {"role": "user", "content": "Does it?"},
    ]
    said = "user: Who flies?\nassistant: The bird."
    as_chat, as_text = made.run.model.answer_all(
        [{"messages": chat, "choices": CHOICES}, {"question": "Does it?", "context": said, "choices": CHOICES}]
    )
    assert as_chat.scores == pytest.approx(as_text.scores)
    with pytest.raises(InputError, match="'messages' must be a list of messages with role and content"):
        made.run.model.answer_all([{"messages": chat[1:2]}])


def test_questions_of_two_kinds_are_asked_apart(made: Made) -> None:
    model = made.run.model
    assert model.answer_all([]) == []
    with pytest.raises(InputError, match="ask them apart"):
        model.answer_all(["q", {"question": "q", "choices": CHOICES}])
    with pytest.raises(InputError, match="'choices' must be a list of texts"):
        model.answer_all([{"question": "q", "choices": "yes"}])
    with pytest.raises(InputError, match="max_new_tokens"):
        model.generate("q", max_new_tokens=0)


def test_prompts_alone_leave_the_deployed_model(made: Made, tmp_path: Path) -> None:
    prompts = [{"question": f"Does the bird fly {n} times?", "choices": CHOICES} for n in range(12)]
    run = adapt(prompts=prompts, policy="random", support=8, out=tmp_path, **made.base)
    assert (run.record.status, run.record.adopted) == ("no_improvement", None)
    assert "no answers are known" in run.record.missing[0]
    assert run.record.unjudged is not None
    assert run.model.adapted.members == (None,)
    assert run.model.answer("Does the bird fly?", CHOICES).text in CHOICES


def test_where_nothing_is_adopted_the_folder_answers_by_the_deployed_models_own_rule(
    made: Made, tmp_path: Path
) -> None:
    plan = strategies(tmp_path, {"family": "Latent", "slot_steps": 1, "slot_lr": 1e-4})
    told = {"policy": "fixed", "policy_settings": {"strategy_file": str(plan)}, "reward": 24, "test": 12, **made.base}
    run = adapt(echo_rows(), adapter="none", support=8, accept="confident", out=tmp_path, **told)
    rule = run.record.reward.answer_rules["baseline"]
    assert (run.record.adopted, run.record.test.adapted) == (None, run.record.test.baseline)
    assert rule != AnswerRule()
    scored = Made(run, made.base, []).scored()
    for model in (run.model, load(run.folder, **made.base)):
        answers = model.answer_all(Made(run, made.base, []).questions())
        assert model.adapted == AdaptedModel(answer_rule=rule)
        assert [(one.choice, list(one.scores)) for one in answers] == [
            (choice, pytest.approx(scores, abs=1e-5)) for choice, scores in scored
        ]
    assert "the run's folder answers by its own best answer rule" in verdict(run.record)


def test_the_tools_are_given_prompts_of_their_own(made: Made, tmp_path: Path) -> None:
    prompts = [{"question": f"what can bird number {n} do?", "answer": "fly"} for n in range(40)]
    plan = strategies(tmp_path, {**TTL, "ttl_steps": 2})
    told = {"policy": "fixed", "policy_settings": {"strategy_file": str(plan)}, "reward": 12, "test": 12, **made.base}
    steps: list[Any] = []
    run = adapt(echo_rows(), prompts=prompts, support=10, out=tmp_path, progress=steps.append, **told)
    assert run.record.splits == {"support": 10, "reward": 12, "test": 12}
    assert run.record.drift.n == 10
    (applied,) = [step.text for step in steps if (step.kind, step.name) == ("end", "apply")]
    assert "of 10 prompts" in applied
    kept = [json.loads(line)["question"] for line in (run.folder / "items/questions.jsonl").read_text().splitlines()]
    assert len(kept) == 24
    assert all("the bird can fly" in question for question in kept)
    again = adapt(resume=run.record.run_id, out=tmp_path)
    assert again.record == run.record
    Path(run.record.config["prompts"]).write_text('{"question": "another"}\n')
    with pytest.raises(InputError, match="was started with prompts_sha256="):
        adapt(resume=run.record.run_id, out=tmp_path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"prompts": "gsm8k"}, "prompts: gsm8k has answers; give it as questions"),
        ({"prompts": [" "]}, "prompts:entry 1: 'question' is blank"),
        ({"prompts": [{"ask": " "}], "map": "question=ask,answer=foo"}, "prompts:entry 1: 'ask' is blank"),
        (
            {"questions": ["a", "b"], "prompts": ["c"]},
            "--prompts: .* has no answers, so it is what the tools are given",
        ),
        ({"questions": "winogrande", "prompts": "piqa"}, "--prompts piqa: have not the form in which winogrande asks"),
        ({"questions": "piqa", "prompts": "no_such"}, "no task is called 'no_such'"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(data: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        adapt(**data, out=tmp_path)


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["--task", "no_such_task"], {"questions": "no_such_task"}),
        (["--task", "{}"], {"questions": "{}"}),
        (["--task", "gsm8k", "--reward", "1"], {"questions": "gsm8k", "reward": 1}),
        (["--task", "gsm8k", "--set", "colour=1"], {"questions": "gsm8k", "colour": 1}),
        (["--task", "gsm8k", "--policy", "oracle"], {"questions": "gsm8k", "policy": "oracle"}),
        (["--task", "gsm8k", "--model", "no-such"], {"questions": "gsm8k", "model": "no-such"}),
        (["--task", "gsm8k", "--config", "nowhere.toml"], {"questions": "gsm8k", "config": "nowhere.toml"}),
        (["--resume", "nothing"], {"resume": "nothing"}),
        (["--task", "gsm8k", "--device", "cuda:9"], {"questions": "gsm8k", "device": "cuda:9"}),
        (["--task", "gsm8k", "--set", "model_path={}"], {"questions": "gsm8k", "model_path": Path("{}")}),
    ],
)
def test_errors_have_the_commands_words(
    argv: list[str], options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_rows(tmp_path / "bad.jsonl", [{"question": "q", "choices": CHOICES, "answer": 7}])
    out = tmp_path / "runs"
    code = main([word.replace("{}", str(bad)) for word in [*argv, "--out", str(out)]])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    told = {k: type(v)(str(v).replace("{}", str(bad))) for k, v in options.items()}
    with pytest.raises((InputError, UnavailableError)) as raised:
        adapt(**told, out=str(out))
    assert said == f"error: {' '.join(str(raised.value).split())}"
    assert raised.value.exit_code == code
    assert capsys.readouterr() == ("", "")
    assert not out.exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "questions: the list is empty"),
        ([{"question": "q", "choices": CHOICES, "answer": 7}], "questions:entry 1: "),
        ([{"question": "q", "choices": CHOICES, "answer": 0}, 7], "questions:entry 2: is a text, or a mapping"),
        ([{"question": "q", "choises": CHOICES, "answer": 0}], "looks like choices"),
        ([{"question": "q", "answer": "a", "id": object()}], "questions:entry 1: cannot be written as JSON"),
        (7, "questions: give a list, a file or a task's name, and no int"),
    ],
)
def test_a_wrong_entry_is_named_and_leaves_nothing_behind(rows: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        adapt(rows, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_nothing_to_adapt_to_is_said() -> None:
    with pytest.raises(InputError, match="give questions, or prompts"):
        adapt()
    with pytest.raises(InputError, match="give it as questions"):
        adapt(task="gsm8k")  # type: ignore[call-arg]


def test_an_interrupted_run_goes_on_where_it_was(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        """What a caller's callback raises."""

    def stop(step: Any) -> None:
        if (step.kind, step.name) == ("start", "choose"):
            raise StopError

    monkeypatch.chdir(tmp_path)
    told = {"policy": "random", "max_attempts": 1, "support": 8, "reward": 12, "test": 12, **made.base}
    with pytest.raises(StopError):
        adapt(echo_rows(), progress=stop, **told)
    (folder,) = [path for path in (tmp_path / "runs").iterdir() if (path / "config.json").exists()]
    steps: list[Any] = []
    run = adapt(resume=folder.name, progress=steps.append)
    assert os.path.samefile(run.folder, folder)
    assert "resuming at choose" in [step.text for step in steps]
    assert run.record.test is not None

"""The configuration: precedence, unknown keys, impossible values."""

from pathlib import Path

import pytest

from agent.config import make_config
from agent.run import main, options, parser
from cao.configuration import parse_assignment
from cao.errors import InputError


def test_command_line_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('task = "gsm8k"\nreward = 10\nseed = 7\n[policy_settings]\ntemperature = 0.5\ntop_k = 3\n')
    config = make_config(file, {"reward": 20}, ["policy_settings.temperature=0.9"])
    assert (config.reward, config.seed, config.test) == (20, 7, 200)
    assert (config.policy_settings.temperature, config.policy_settings.top_k) == (0.9, 3)


def test_an_unknown_key_is_told_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"configuration: rewad: unknown key; did you mean reward\?"):
        make_config(None, {"task": "gsm8k"}, ["rewad=1"])
    with pytest.raises(InputError, match=r"configuration: colour: unknown key$"):
        make_config(None, {"task": "gsm8k"}, ["colour=1"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("reward=3", {"reward": 3}),
        ("a.b=true", {"a": {"b": True}}),
        ("model_path=/some/where", {"model_path": "/some/where"}),
        ('task="gsm8k"', {"task": "gsm8k"}),
        ("x=", {"x": ""}),
    ],
)
def test_assignment_is_toml_or_else_a_string(text: str, value: dict[str, object]) -> None:
    assert parse_assignment(text) == value


@pytest.mark.parametrize("text", ["reward", "=3", "a..b=1", ".a=1"])
def test_malformed_assignment_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        parse_assignment(text)


@pytest.mark.parametrize(
    "assignments",
    [
        ["no_such_key=1"],
        ["policy_settings.no_such=1"],
        ["reward=0"],
        ["reward=-5"],
        ["reward=1.5"],
        ["test=nan"],
        ["seed=99999999999999999999"],
        ["max_attempts=0"],
        ["accept=always"],
        ["device=abacus"],
        ["model=gpt-17"],
        ["protocol=guess"],
        ["adapter=best"],
        ["variant=../elsewhere"],
        ["variant="],
        ["policy_settings.temperature=inf"],
        ["policy_settings=3"],
    ],
)
def test_impossible_configuration_is_one_line_and_exit_2(
    assignments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--task", "gsm8k", "--out", str(tmp_path / "runs")]
    assert main([*arguments, *(part for text in assignments for part in ("--set", text))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", ["task = ", "\xff", "[[["])
def test_broken_configuration_file_is_exit_2(content: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content.encode("latin-1"))
    assert main(["--config", str(file)]) == 2
    assert main(["--config", str(tmp_path / "absent.toml")]) == 2


def test_only_explicit_options_are_passed_on() -> None:
    assert options(parser().parse_args(["--task", "x", "--reward", "5"])) == {"task": "x", "reward": 5}


def test_the_adapter_is_an_option_and_the_variant_a_setting() -> None:
    given = parser().parse_args(["--task", "x", "--adapter", "none", "--set", "variant=without-piqa"])
    config = make_config(None, options(given), given.assignments)
    assert (config.adapter, config.variant) == ("none", "without-piqa")
    default = make_config(None, {"task": "x"}, [])
    assert (default.adapter, default.variant) == ("aligned", "auto")
    assert default.fingerprint() != config.fingerprint()


def test_fingerprint_follows_a_file_by_content_and_ignores_where_the_run_lies(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("one")
    first = make_config(None, {"task": str(file), "out": "a"}, [])
    second = make_config(None, {"task": str(file), "out": "b", "offline": True}, [])
    before = first.fingerprint()
    assert before == second.fingerprint()
    file.write_text("two")
    assert first.fingerprint() != before


def test_a_pool_counts_by_the_content_of_its_adapters_wherever_they_lie(tmp_path: Path) -> None:
    for name, content in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_text(content)
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "b" / "README.md").write_text("of no consequence")
    a, b, c = (make_config(None, {"task": "gsm8k"}, [f'pool=["{tmp_path / name}"]']).fingerprint() for name in "abc")
    assert a == b != c
    assert "pool" not in make_config(None, {"task": "gsm8k"}, []).fingerprint()
    file = tmp_path / "run.toml"
    file.write_text('task = "gsm8k"\npool = ["mine"]\n')
    assert make_config(file, {}, []).pool == [str(Path("mine").absolute())]

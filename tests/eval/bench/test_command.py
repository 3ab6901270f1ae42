"""``python -m eval.bench``: what is refused, and that every benchmark can be called."""

import importlib

import pytest

from agent.config import settings_of
from eval.bench import command


@pytest.mark.parametrize(
    "argv",
    [
        ["latent", "--task", "nothing"],
        ["latent", "--model", "nothing"],
        ["scoring", "--tasks", "arc_easy,nothing"],
    ],
)
def test_bad_input_is_exit_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if argv[0] == "scoring":
        pytest.importorskip("lm_eval")
    assert command.main([*argv, "--offline"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_the_package_is_a_command() -> None:
    assert importlib.import_module("eval.bench.__main__").main is command.main
    for name, (settings, _) in command.BENCHES.items():
        given = settings_of(settings, command.parser().parse_args([name]), "bench")
        assert given.model_dump()["repetitions"] == (1 if name in ("run", "size") else 5)

"""A policy model for which nothing was trained: its untrained self proposes under the grammar, and this is said."""

from pathlib import Path

import pytest

from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from policies.registry import build_policy

SAID = "no policy was trained for tiny: the untrained model proposes, held to strategies by their grammar; to train one"
COMMAND = "python -m agent.train_policy --model nowhere/tiny --install"


def said(lm: LanguageModel, settings: PolicySettings, pretrained: Path, capsys: pytest.CaptureFixture[str]) -> str:
    build_policy("local", settings, lm=lm, offline=True, pretrained=str(pretrained))
    return " ".join(capsys.readouterr().err.split())


def test_an_untrained_policy_is_told_with_the_command_that_trains_one(
    tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(tiny_lm, PolicySettings(), tmp_path, capsys)
    assert SAID in told
    assert COMMAND in told


def test_what_is_asked_for_is_not_told(
    tiny_lm: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(tiny_lm, PolicySettings(adapter="none"), tmp_path, capsys) == ""
    assert "grammar" not in said(tiny_lm, PolicySettings(constrained=False), tmp_path, capsys)

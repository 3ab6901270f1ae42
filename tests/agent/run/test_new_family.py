"""A new strategy family is one file and one line: the whole graph runs with one that is added here."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from cao.strategies import FAMILIES, Standing
from cao.types import AdaptedModel, AdapterRef
from policies.base import PolicyContext
from policies.grid import grid, papers_choice
from policies.messages import policy_messages
from policies.uniform import RandomPolicy
from tests.agent.run.tiny_runs import arguments, run, strategies
from tools.apply_strategy import applicable

FILE = '''
"""Damp, a family that makes the current adapter, or a fresh one, weaker or stronger."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from cao.strategies.base import Pace, Price, Standing, Strategy
from cao.types import AdaptedModel


class Damp(Strategy):
    """Multiply the adapter's B by a factor."""

    kernel: ClassVar = "damp:apply"
    about: ClassVar = "multiplies the adapter."
    usual: ClassVar = {"factor": "0.5 to 1.5", "sign": "one of the two"}
    papers_tasks: ClassVar = ("a task of its own",)

    family: Literal["Damp"]
    factor: Annotated[float, Field(ge=0.1, le=4.0)]
    sign: Literal["plus", "minus"]

    @classmethod
    def papers_numbers(cls) -> Self:
        return cls(family="Damp", factor=1.5, sign="minus")

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        return (cls(family="Damp", factor=0.5, sign="plus"), cls.papers_numbers())

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        return f"{standing.model} is at rest" if standing.adapter else None

    def price(self, pace: Pace) -> Price:
        return Price(seconds=10_000.0 if self.factor == 4.0 else 0.0)


def apply(strategy: Damp, inputs) -> AdaptedModel:
    weights = inputs.weights() or inputs.lm.fresh_lora(inputs.seed)
    factor = strategy.factor if strategy.sign == "plus" else -strategy.factor
    moved = {name: factor * (tensor + 0.01) for name, tensor in weights.tensors.items()}
    note = f"times {factor:g} on {len(inputs.prompts)} prompts"
    member = inputs.keep(replace(weights, tensors=moved))
    return inputs.current.model_copy(update={"members": (member,), "note": note})
'''


@pytest.fixture(autouse=True)
def damp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damp.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(FAMILIES, "Damp", import_module("damp").Damp)


def test_the_graph_runs_with_a_new_family(
    echoes: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = [{"family": "Damp", "factor": 0.5, "sign": "plus"}, {"family": "Damp", "factor": 2.5, "sign": "minus"}]
    plan = strategies(tmp_path, {**tried[0], "factor": 4.5}, *tried, tried[0])
    argv = arguments(echoes, tiny_model_folder, tmp_path / "runs", plan, "--accept", "confident")
    record = run(capsys, argv)
    trials = record["trials"]
    assert trials[0]["reason"] == "rejected: Damp: factor: Input should be less than or equal to 4"
    measured = [trial for trial in trials[1:] if trial["reward"]]
    assert [trial["strategy"] for trial in measured] == tried[: len(measured)]
    assert measured
    assert measured[0]["reason"].endswith("times 0.5 on 8 prompts")
    report = (tmp_path / "runs" / record["run_id"] / "report.html").read_text()
    assert "Damp(factor=0.5, sign=plus)" in report


def test_a_new_family_is_drawn_and_described_like_the_others() -> None:
    draws = [json.loads(text) for text in RandomPolicy().propose(PolicyContext(families=("Damp",)), 20, 0)]
    assert {draw["sign"] for draw in draws} == {"plus", "minus"}
    assert all(0.1 <= draw["factor"] <= 4 for draw in draws)
    system, user = (message["content"] for message in policy_messages(PolicyContext()))
    assert "one strategy out of six families" in system
    assert 'Damp multiplies the adapter. Its keys:\n"family"' in system
    assert '"factor": number from 0.1 to 4\n"sign": one of "plus", "minus"\n' in system
    assert '{"family":"Damp","factor":0.5 to 1.5,"sign":one of the two}' in user
    assert [point.canonical()["factor"] for point in grid(["Damp"])] == [0.5, 1.5]
    assert papers_choice("a task of its own") == grid(["Damp"])[1]


def test_a_new_family_says_why_it_cannot_act() -> None:
    adapter = AdapterRef(path="", sha256="", base_sha256="", rank=2)
    carried, plain = AdaptedModel(members=(adapter,)), AdaptedModel()
    assert applicable(Standing(carried, "tiny", generator=False))["Damp"] == "tiny is at rest"
    assert applicable(Standing(plain, "tiny", generator=False))["Damp"] is None


def test_a_new_family_that_takes_too_long_is_not_tried(
    echoes: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = strategies(tmp_path, {"family": "Damp", "factor": 4.0, "sign": "plus"})
    argv = arguments(echoes, tiny_model_folder, tmp_path / "runs", plan, "--max-attempts", "1", "--minutes", "60")
    [trial] = run(capsys, argv)["trials"]
    assert trial["reason"].startswith("not tried: it would take about ")

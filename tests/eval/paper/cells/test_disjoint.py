"""No test question reaches what a row is made of: its support, its reward, its training, a prompt, a description.

Whatever a language model reads goes through ``LanguageModel.encode``, but for the prompts that SeRL hands to its
trainer; whatever the encoder reads goes through its three doors. All of it is written down while every row of Tables 2
and 6 is made, until the test part is asked. A family that is transductive reads the test questions, without their
answers, when it is applied to them: that is its definition, and it does so at the end alone, when the loop is over.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.loop import applying, nodes, outcome, reward
from agent.train.engine.settings import EngineSettings
from agent.train.generator.own import fingerprint
from agent.train.generator.presets import REPORTED
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import silent
from cao.tasks import get_task
from cao.tasks.splits import Part, part
from cao.types import Comparison, Example
from eval.baselines.registry import BASELINES
from eval.baselines.serl import method as serl
from eval.options import TablesOptions
from eval.paper.cells import kept
from eval.paper.cells.desk import Shared
from eval.paper.measure import Measuring
from eval.paper.rows import ALL, PAPERS_ALL, STAGE_1
from tests.agent.tiny_pretrained import MODEL
from tests.eval.paper.conftest import CALIBRATE, LATENT

TASK = "social_iqa"
TTL = json.dumps(
    {"family": "TTL", "ttl_steps": 1, "learning_rate": 3e-4, "batch_size": 2, "shuffle_data": False, "inputs": "test"}
)
NOT_HERE = {"cao_stages_1_2"} | ({"serl"} if importlib.util.find_spec("trl") is None else set())
"""Rows that the tiny consolidation or the environment cannot make."""


@dataclass
class Spy:
    """Writes down what is read.

    Attributes:
        made: texts that were read while models were made, chosen or steered.
        tested: texts that were read while the test part was asked.
        applied: texts that were read while accepted strategies were applied to the test part.
        reinforced: prompts that SeRL's trainer was given, its self-made questions among them.
    """

    made: set[str] = field(default_factory=set)
    tested: set[str] = field(default_factory=set)
    applied: set[str] = field(default_factory=set)
    reinforced: set[str] = field(default_factory=set)
    now: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now = self.made

    def read(self, *texts: str) -> None:
        self.now.update(texts)

    @contextmanager
    def into(self, texts: set[str]) -> Iterator[None]:
        before, self.now = self.now, texts
        yield
        self.now = before


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Everything that is read from here on."""
    seen, encode = Spy(), LanguageModel.encode

    def encoded(self: LanguageModel, text: str, **more: Any) -> list[int]:
        seen.read(text)
        return encode(self, text, **more)

    monkeypatch.setattr(LanguageModel, "encode", encoded)
    for name in ("hold", "embed", "condition"):
        monkeypatch.setattr(Encoder, name, _listening(getattr(Encoder, name), seen))
    for module in (kept, outcome, applying):
        monkeypatch.setattr(module, "measure_part", partial(_asked, seen, module.measure_part))
    monkeypatch.setattr(nodes, "remade_for_test", partial(_applied, seen, nodes.remade_for_test))
    monkeypatch.setattr(serl, "reinforce", partial(_reinforced, seen, serl.reinforce))
    return seen


def _reinforced(seen: Spy, real: Callable[..., None], *given: Any, **named: Any) -> None:
    *_, prompts, _, _ = given
    seen.read(*prompts)
    seen.reinforced.update(prompts)
    real(*given, **named)


def _listening(real: Callable[..., Any], seen: Spy) -> Callable[..., Any]:
    def listened(self: Encoder, prompts: Sequence[str], *more: Any, **named: Any) -> Any:
        seen.read(*prompts)
        return real(self, prompts, *more, **named)

    return listened


def _asked(seen: Spy, real: Callable[..., Any], bench: Any, model: Any, name: str, file: str) -> Any:
    with seen.into(seen.tested if name == "test" else seen.now):
        return real(bench, model, name, file)


def _accepting(real: Callable[..., Comparison], *given: Any, **named: Any) -> Comparison:
    """The real comparison, of a candidate that is taken whatever it says."""
    return real(*given, **named).model_copy(update={"accepted": True})


def _applied(seen: Spy, real: Callable[..., Any], *given: Any) -> Any:
    with seen.into(seen.applied):
        return real(*given)


@pytest.fixture
def measuring(
    request: pytest.FixtureRequest, tiny_model_folder: Path, tiny_consolidation: Path, tmp_path: Path
) -> Measuring:
    strategies, more = tmp_path / "strategies.jsonl", getattr(request, "param", {})
    strategies.write_text(f"{CALIBRATE}\n{LATENT}\n" if not more else f"{TTL}\n")
    options = TablesOptions.model_validate(
        {
            **{"table": "all", "preset": "quick", "consolidation": tiny_consolidation},
            **{"tasks": (TASK,), "limit": 12, "reward": 48, "seeds": (0,), "work": tmp_path / "work"},
            **{"model": MODEL, "model_path": str(tiny_model_folder), "dtype": "float32", "offline": True},
            **{"policy": "fixed", "policy_settings": {"strategy_file": str(strategies)}},
            "methods": (*BASELINES, STAGE_1, ALL),
            **more,
        }
    )
    return Measuring(options, EngineSettings(), "a command", silent)


@pytest.mark.slow
def test_no_test_question_is_read_before_the_test(measuring: Measuring, spy: Spy) -> None:
    for number in ("2", "6"):
        rows = measuring.table(number).rows
        assert {name for name, row in rows.items() if row.absent} <= NOT_HERE
    assert bool(spy.reinforced) == ("serl" not in NOT_HERE)
    rewarded, test = measuring.desk.shared.measured(TASK)
    support = part(get_task(TASK), "support")
    assert all(among(spy.made, example) for example in rewarded)
    assert any(among(spy.made, example) for example in support)
    assert all(among(spy.tested, example) for example in test)
    assert [example.question for example in part(get_task(TASK), "test") if among(spy.made, example)] == []


@pytest.mark.slow
@pytest.mark.parametrize("measuring", [{"methods": (PAPERS_ALL,)}], indirect=True)
def test_a_strategy_for_the_test_questions_reads_them_last_and_never_their_answers(
    measuring: Measuring, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "compare", partial(_accepting, reward.compare))
    row = measuring.table("6").rows[PAPERS_ALL]
    assert not row.absent
    (cell,) = row.cells.values()
    assert "inputs=test" in cell.notes[0]
    _, test = measuring.desk.shared.measured(TASK)
    assert [example.question for example in part(get_task(TASK), "test") if among(spy.made, example)] == []
    read = [text for text in spy.applied for example in test if example.question in text]
    assert read
    assert [text for text in read if not text.rstrip().endswith("Answer:")] == []  # what stands before the choices
    choices = {choice for example in test for choice in example.choices}
    assert {text.strip() for text in spy.applied} & choices == set()


def among(texts: set[str], example: Example) -> bool:
    """Whether a question was read; several share their words, but not what they are about."""
    return any(example.question in text and example.context in text for text in texts)


@pytest.mark.slow
def test_no_reported_test_question_is_in_another_part(tmp_path: Path) -> None:
    shared = Shared(TablesOptions(table="2", limit=5000), tmp_path)
    for name in REPORTED:
        task = get_task(name)
        parts: tuple[Part, ...] = ("train", "support", "reward") if task.has_train else ("support", "reward")
        others = {fingerprint(example) for kind in parts for example in part(task, kind)}
        _, test = shared.measured(name)
        assert len(test) > 100, name
        assert {fingerprint(example) for example in test} & others == set(), name

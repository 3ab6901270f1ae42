"""Ranking answers beside lm-evaluation-harness. No time is asserted."""

import sys
from collections.abc import Sequence

import pytest
import torch

from cao.errors import UnavailableError
from cao.model.language_model import LanguageModel
from cao.types import Branch, Query
from eval.bench import command, flops, scoring
from eval.bench.plain import harness
from eval.bench.scoring import Subject
from tests.eval.bench.parts import check, subject


class FakeHarness:
    """Gives our own scores, turned upside down for the first ``wrong`` questions."""

    def __init__(self, lm: LanguageModel, wrong: int) -> None:
        self.lm, self.wrong = lm, wrong


def fake(monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    monkeypatch.setattr(scoring, "open_harness", lambda lm, batch, softmax=None: FakeHarness(lm, wrong))
    monkeypatch.setattr(flops, "SHAPES", ((64, 32, 48),))  # a slow processor's rate would take longer than the rest

    def theirs(self: Subject, lm: LanguageModel, made: FakeHarness) -> Sequence[Sequence[float]]:
        scores = [list(item.scores) for item in self.ours(lm)]
        return [[-each for each in row] if i < made.wrong else row for i, row in enumerate(scores)]

    monkeypatch.setattr(scoring.Subject, "theirs", theirs)


@pytest.mark.parametrize("wrong", [0, 2])
def test_decisions_are_compared_item_by_item(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    fake(monkeypatch, wrong)
    result = scoring.bench(tiny_lm, [subject()], repetitions=3, batch=4)
    check(result)
    assert set(result.ratios) == {"tiny"}
    assert (result.decisions, result.decisions_equal) == (6, 6 - wrong)
    assert [each.task for each in result.differences] == ["tiny"] * wrong
    assert f"{6 - wrong} of 6" in dict(result.lines())["equal decisions"]
    assert result.useful_flops == subject().flops(tiny_lm)


def test_a_noisy_scoring_prints_no_figure(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, 0)
    times = iter(range(1, 100))
    monkeypatch.setattr(scoring, "seconds", lambda body, device: (body(), float(next(times) ** 3))[1])
    result = scoring.bench(tiny_lm, [subject()], repetitions=5, batch=4)
    assert result.ratios == {"tiny": None}
    assert result.geomean_ratio is None
    assert "tiny" in result.noisy
    lines = dict(result.lines())
    assert "too noisy" in lines["tiny, 6 questions"]
    assert lines["geometric mean"].startswith("none")


def test_a_pair_is_what_is_read_and_what_is_judged() -> None:
    query = Query(prefix="Q:", branches=(Branch(scored=" a"), Branch(lead=" b", scored=" c")))
    assert harness.pairs([query]) == [("Q:", " a"), ("Q: b", " c")]
    assert harness.choices([[0.0, 1.0, 1.0], [3.0, 2.0]]) == [1, 0]


def test_without_the_harness_the_message_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(UnavailableError, match=r"needs the extra bench: lm_eval is not installed"):
        harness.check_harness()
    assert command.main(["scoring", "--limit", "1", "--offline"]) == 3
    assert "pip install" in capsys.readouterr().err


@pytest.mark.integration
def test_the_harness_gives_the_log_likelihoods_that_we_give(tiny_lm: LanguageModel) -> None:
    pytest.importorskip("lm_eval")
    tiny_lm.model.float()
    opened = harness.open_harness(tiny_lm, 4, "float32")
    assert opened.model is tiny_lm.model
    theirs = subject().theirs(tiny_lm, opened)
    ours = [item.scores for item in subject().ours(tiny_lm)]
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours, dtype=torch.float32), atol=1e-4, rtol=1e-4)

"""What a run reads is counted in its language model, and nothing of it twice or unknown."""

import pytest
import torch

from agent.api.progress import CallbackView
from cao.model.language_model import LanguageModel
from eval.baselines.descent import Read
from eval.paper.cells.meter import Meter


def say(meter: Meter, *events: tuple[str, str]) -> None:
    view = CallbackView(meter.follow)
    for node, event in events:
        view.event(node, event, {"at": node}, None)


def ask(lm: LanguageModel, *shape: int) -> None:
    lm.model(input_ids=torch.zeros(shape, dtype=torch.long), use_cache=False)


def test_tokens_are_counted_until_the_test_part_is_answered(tiny_lm: LanguageModel) -> None:
    with Read.by(tiny_lm) as read:
        meter = Meter(read)
        say(meter, ("describe", "start"))
        ask(tiny_lm, 1, 7)
        say(meter, ("describe", "end"), ("evaluate", "start"))
        ask(tiny_lm, 2, 3)
        say(meter, ("evaluate", "end"), ("conclude", "start"))
        ask(tiny_lm, 1, 5)
    ask(tiny_lm, 1, 5)
    assert meter.tokens == 7 + 2 * 3


@pytest.mark.parametrize("events", [[], [("evaluate", "resume"), ("evaluate", "start"), ("conclude", "start")]])
def test_what_an_earlier_process_read_is_not_known(tiny_lm: LanguageModel, events: list[tuple[str, str]]) -> None:
    with Read.by(tiny_lm) as read:
        meter = Meter(read)
        say(meter, *events)
        ask(tiny_lm, 1, 7)
    assert meter.tokens is None

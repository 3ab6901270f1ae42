"""The report's pictures: one scale, few ticks, the real graph, labels that can be read."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.record.page.charts import ticks
from agent.record.page.report import EDGES, NODES
from tests.agent import run_folders as made
from tests.agent.record.report_pages import answered, report


def test_drift_bars_have_one_scale_for_all_runs_and_the_nearest_is_the_shortest(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    widths = [float(width) for width in re.findall(r'class="bar[^"]*" style="width: ([\d.]+)%"', html)]
    assert widths == pytest.approx(sorted(100 * effect for effect in made.KNOWN.values()))
    assert re.findall(r'class="bar( nearest)?"', html) == [" nearest"] + [""] * (len(widths) - 1)
    assert "from 0 for equal distributions to 1, a whole bar" in page.text


def test_the_chart_puts_a_better_loss_lower_and_a_better_accuracy_higher(tmp_path: Path) -> None:
    html, _ = report(made.write_run(tmp_path, "one"))
    accuracy, loss = (html.split("<figure>")[i].split("</figure>")[0] for i in (1, 2))
    for part, better in ((accuracy, "above"), (loss, "below")):
        base = float(re.findall(r'class="base"[^>]*y1="([\d.]+)"', part)[0])
        accepted = float(re.findall(r'class="accepted">.*?cy="([\d.]+)"', part, re.DOTALL)[0])
        rejected = float(re.findall(r'class="not-better">.*?cy="([\d.]+)"', part, re.DOTALL)[0])
        assert (accepted < base < rejected) == (better == "above")  # SVG's y axis points down
        assert (accepted > base > rejected) == (better == "below")


def test_a_hundred_attempts_still_make_a_chart(tmp_path: Path) -> None:
    record = made.record("long")
    record["trials"] = [record["trials"][1]] * 100
    html, _ = report(made.write_run(tmp_path, "long", record))
    assert html.count('<circle class="dot"') == 200


@given(low=st.floats(-1e3, 1e3), span=st.floats(0, 1e6))
def test_ticks_are_few_and_enclose_the_values(low: float, span: float) -> None:
    found = ticks(low, low + span, least=0.01)
    assert 3 <= len(found) <= 8
    assert found[0] <= low <= low + span <= found[-1]
    assert len({round((b - a) / (found[1] - found[0]), 3) for a, b in pairwise(found)}) == 1


def test_the_graph_shows_visits_and_taken_edges(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    assert re.findall(r">(\w+)</text>\s*<g class=\"badge\">.*?>(\d+)</text>", html) == [
        ("describe", "1"), ("detect", "1"), ("generate", "1"), ("align", "1"), ("choose", "1"), ("decide", "3"),
        ("apply", "2"), ("evaluate", "2"), ("conclude", "1"),
    ]  # fmt: skip
    assert sum(pair == ("class", "edge seen") for pair in page.attributes) == 10 + 2  # and the two at the ends


@pytest.mark.integration
def test_the_drawn_graph_is_the_real_graph() -> None:
    from agent.graph import make_graph  # imports torch

    real = make_graph().get_graph()
    assert set(NODES) == set(real.nodes) - {"__start__", "__end__"}
    drawn = {edge for edge in real.edges if "__" not in edge.source + edge.target}
    assert set(EDGES) == {(edge.source, edge.target) for edge in drawn}


def test_the_axis_of_accuracies_stays_within_its_bounds(tmp_path: Path) -> None:
    record = made.record("low")
    record["reward"]["baseline"] |= {"score": 0.0, "ci95": [0.0, 0.04]}
    record["trials"][2]["reward"] |= {"score": 1.0, "ci95": [0.96, 1.0]}
    html, _ = report(made.write_run(tmp_path, "low", record))
    axis = [int(text) for text in re.findall(r">(-?\d+) %</text>", html)]
    assert (min(axis), max(axis)) == (0, 100)


PHONE = 390 - 2 * 12 - 2 * 17
"""Pixels inside a card on a phone: the page's and the card's padding and border are taken off."""


def test_no_label_of_a_picture_is_too_small_to_read_on_a_phone(tmp_path: Path) -> None:
    html, _ = report(answered(made.write_run(tmp_path, "one"), base=[0], adapted=[1]))
    style = html.split("<style>")[1].split("</style>")[0]
    sizes = [int(size) for size in re.findall(r"\.(?:axis|word|node text|badge text) \{[^}]*font-size: (\d+)px", style)]
    assert len(sizes) == 4
    for frame, view in re.findall(
        r'<(div class="wide"|figure)>(?:\s*<figcaption>[^<]*</figcaption>)?\s*<svg viewBox="0 0 (\d+)', html
    ):
        name = r"\.wide" if "wide" in frame else r"\.charts"
        least = int(re.findall(name + r" svg \{ min-width: (\d+)px", style)[0])
        smallest = min(sizes if "wide" not in frame else sizes[-2:])
        assert smallest * max(PHONE, least) / int(view) >= 10
        assert re.search(name + r"(?: figure)? \{[^}]*overflow-x: auto", style)

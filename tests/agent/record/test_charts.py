"""The report's pictures: one scale, few ticks, the real graph, labels that can be read."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.record.page.charts import loop_charts, ticks
from agent.record.page.path import EDGES, NODES
from agent.record.schema import Run
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
    path = answered(made.write_run(tmp_path, "one"), base=[0], adapted=[1])
    html, _ = report(made.write_picture(path))
    phone = html.split("@media (max-width: 640px)")[1].split("@media")[0]
    widths = dict(
        re.findall(
            r'<figure(?: class="(\w+)")?>\s*(?:<figcaption>[^<]*</figcaption>\s*)?<svg viewBox="[-\d]+ \d+ (\d+)', html
        )
    )
    assert set(widths) == {"", "plane", "graph"}
    for label, figure in (
        (".axis, .word", ""),
        (".name", "plane"),
        (".node text", "graph"),
        (".node .badge text", "graph"),
    ):
        size = int(re.findall(re.escape(label) + r" \{ font-size: (\d+)px", phone)[0])
        assert size * PHONE / int(widths[figure]) >= 10


def test_the_drift_picture_shows_every_prompt_and_each_task_beside_its_null(tmp_path: Path) -> None:
    html, page = report(made.write_picture(made.write_run(tmp_path, "one")))
    assert html.count('class="prompt"') == 3
    assert html.count('class="cloud') == len(made.KNOWN)
    assert html.count('class="cloud nearest"') == 1
    assert "the 2nd prompt" in page.text
    rows = re.findall(
        r'<path d="M([\d.]+) 20[^"]+H([\d.]+)V20Z"/></svg><i class="spot( nearest)?" style="left: ([\d.]+)%', html
    )
    assert len(rows) == len(made.KNOWN)
    assert [mark for *_, mark, _ in rows] == [" nearest"] + [""] * (len(rows) - 1)
    assert all(float(low) < float(high) < float(at) for low, high, _, at in rows)  # drifted: beyond the null
    assert 'class="bar' not in html


@pytest.mark.parametrize(
    "damage",
    [
        *("{", "[]", '{"tasks": 3}', '{"tasks": {}}', "null", '{"prompts": [{"at": [1e300, 0]}], "tasks": {}}'),
        '{"tasks": {"a": {"points": [], "centre": [0, 0], "observed": 1e200, "null": [], "low": 0, "high": 1}}}',
        '{"tasks": {"a": {"points": [], "centre": [0, 0], "observed": 1, "null": [-3], "low": 0, "high": 1}}}',
    ],
)
def test_a_damaged_picture_leaves_the_bars(tmp_path: Path, damage: str) -> None:
    path = made.write_run(tmp_path, "one")
    (path / "drift.json").write_text(damage)
    assert report(path)[0].count('class="bar') == len(made.KNOWN) + 1


def test_a_picture_of_one_point_alone_is_drawn(tmp_path: Path) -> None:
    path = made.write_run(tmp_path, "one")
    task = {"points": [], "centre": [0, 0], "observed": 0, "null": [], "low": 0, "high": 0}
    (path / "drift.json").write_text(json.dumps({"prompts": [], "tasks": dict.fromkeys(made.KNOWN, task)}))
    html, _ = report(path)
    assert html.count('class="spot') >= len(made.KNOWN)
    assert not re.search(r'="[^"]*nan', html)


def test_the_timeline_places_every_step_in_its_order(tmp_path: Path) -> None:
    html, page = report(made.write_run(tmp_path, "one"))
    steps = [
        (float(left), float(width))
        for left, width in re.findall(r'class="step[^"]*" style="left: ([\d.]+)%; width: ([\d.]+)%"', html)
    ]
    assert len(steps) == 13
    assert all(left + width <= 100.01 for left, width in steps)
    assert "attempt 3: TTL(ttl_steps=25" in html.split("Step by step over time")[1]
    assert "apply 35 s (20 %)" in page.text


def test_an_unfinished_step_and_a_resumption_are_marked_in_the_timeline(tmp_path: Path) -> None:
    path = made.write_unfinished(tmp_path, "killed", keep=13)
    lines = made.events(made.record("killed"))[:13]
    lines.insert(10, {"seq": 10, "node": "decide", "event": "resume", "data": {"at": "decide"}})
    made.write_trace(path, lines)
    html, _ = report(path)
    assert html.count('class="resumed"') == html.count('<div class="track lane">')
    assert html.count(" open") >= 1
    assert "decide began and has not ended" in html


def test_accuracies_on_test_stand_on_one_axis_with_chance(tmp_path: Path) -> None:
    record = made.record("one")
    record["test"]["chance"] = 0.25
    html, page = report(made.write_run(tmp_path, "one", record))
    chance = {float(at) for at in re.findall(r'class="chance" style="left: ([\d.]+)%', html)}
    ranges = [
        (float(low), float(width))
        for low, width in re.findall(r'class="range" style="left: ([\d.]+)%; width: ([\d.]+)', html)
    ]
    assert len(chance) == 1
    assert len(ranges) == 2
    assert all(min(chance) < low and low + width <= 100 for low, width in ranges)
    assert "adapted 48.5 % 41.6 – 55.4 %, log-loss 1.3455" in page.text


def test_a_dropped_attempt_is_drawn_from_the_best_before_it(tmp_path: Path) -> None:
    record = made.record("one")
    taken, dropped = record["trials"][2], dict(record["trials"][1])
    dropped |= {"reward": made.reward(0.9, 0.2, 24), "dropped_after": 24}  # on these questions all models are good
    record["trials"] = [taken, dropped]
    path = made.write_run(tmp_path, "one", record)
    run = Run.model_validate(record)
    accuracy, loss = loop_charts(run, path)
    assert accuracy.marks[2].title.endswith(f": {100 * (0.4896 - 0.0104):.4g} %")  # the accepted one and its change
    assert loss.marks[2].title.endswith(f": {1.3388 + 0.0102:.4g}")
    assert "dropped, and drawn at the best before it plus the change so far" in report(path)[0]

    made.write_items(path, "base", [2.0] * 6, [True] * 6)
    made.write_items(path, "attempt-1", [1.0] * 6, [True] * 6)
    made.write_items(path, "attempt-2", [1.5, 1.4, 1.6], [True] * 3)
    _, loss = loop_charts(run, path)
    mark = loss.marks[2]
    assert mark.low is not None
    assert mark.high is not None
    ticks_at = sorted((at, float(text)) for at, text in loss.ticks)
    (y0, v0), (y1, v1) = ticks_at[0], ticks_at[-1]
    middle = v0 + ((mark.low + mark.high) / 2 - y0) / (y1 - y0) * (v1 - v0)
    assert middle == pytest.approx(1.3388 + 0.5, abs=0.01)  # not the start's 1.3602 less 0.5
    assert "Of one that was dropped: from the best before it." in loss.note

"""The graph's shape and its one router."""

import ast
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent import graph
from agent.loop import nodes
from cao.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def state(**changes: object) -> dict[str, object]:
    return {
        "accepted": False,
        "until": "first",
        "trials": [],
        "max_attempts": 2,
        "proposal": None,
        "candidate": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "decide"),
        ({"trials": [{}]}, "decide"),
        ({"trials": [{}, {}]}, "conclude"),
        ({"proposal": {"family": "TTL"}}, "apply"),
        ({"proposal": {"family": "TTL"}, "candidate": {}}, "evaluate"),
        ({"proposal": {"family": "TTL"}, "trials": [{}]}, "apply"),
        ({"accepted": True, "trials": [{}]}, "conclude"),
        ({"accepted": True, "trials": [{}, {}]}, "conclude"),
        ({"accepted": True, "trials": [{}], "until": "budget"}, "decide"),
        ({"accepted": True, "trials": [{}, {}], "until": "budget"}, "conclude"),
        ({"accepted": True, "trials": [{}], "until": "budget", "out_of_time": True}, "conclude"),
        ({"start": "aligned", "trials": [{}]}, "decide"),  # a better start alone does not end the loop
    ],
)
def test_router_is_a_pure_function_of_the_state(changes: dict[str, object], expected: str) -> None:
    before = state(**changes)
    assert graph.route(before) == expected  # type: ignore[arg-type]
    assert before == state(**changes)


def test_edges_are_those_of_the_paper() -> None:
    drawn = graph.make_graph().get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    once = ["__start__", "describe", "detect", "generate", "align", "choose", "decide"]
    assert set(pairwise(once)) <= edges
    assert {target for source, target in edges if source == "decide"} == {"apply", "decide", "conclude"}
    assert {target for source, target in edges if source == "apply"} == {"evaluate", "decide", "conclude"}
    assert {target for source, target in edges if source == "evaluate"} == {"decide", "conclude"}
    assert ("conclude", "__end__") in edges


@pytest.mark.parametrize("context", [None, {}, {"workbench": "no"}])
def test_a_graph_that_is_started_without_models_says_what_loads_them(context: Any) -> None:
    with pytest.raises(InputError, match=r"python -m agent.run --task NAME loads"):
        graph.make_graph().invoke({"status": "running", "trials": [], "accepted": False}, context=context)


def test_mermaid_names_every_node() -> None:
    assert all(name in graph.mermaid() for name in nodes.NODES)


def test_all_edges_fit_one_screen() -> None:
    source = Path(graph.__file__).read_text()
    build = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "connect")
    assert build.end_lineno is not None
    assert build.end_lineno - build.lineno < 40

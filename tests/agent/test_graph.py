"""The graph's shape and its one router."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest

from agent import graph, nodes


def state(**changes: object) -> dict[str, object]:
    return {
        "accepted": False,
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
    once = ["__start__", "describe", "detect", "generate", "align", "evaluate"]
    assert set(pairwise(once)) <= edges
    assert {target for source, target in edges if source == "decide"} == {"apply", "decide", "conclude"}
    assert {target for source, target in edges if source == "apply"} == {"evaluate", "decide", "conclude"}
    assert {target for source, target in edges if source == "evaluate"} == {"decide", "conclude"}
    assert ("conclude", "__end__") in edges


def test_mermaid_names_every_node() -> None:
    assert all(name in graph.mermaid() for name in nodes.NODES)


def test_all_edges_fit_one_screen() -> None:
    source = Path(graph.__file__).read_text()
    build = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "build_graph")
    assert build.end_lineno is not None
    assert build.end_lineno - build.lineno < 40

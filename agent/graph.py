"""The whole graph on one screen: the stages once, then decide → apply → evaluate while it pays.

A run that is given ``--reference`` ends behind the drift test where there is no drift.

Source: CAO-LLM §2, Fig. 1 (catch, adapt, operate).
"""

from collections.abc import Callable
from typing import Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.typing import ContextT, InputT, OutputT, StateT

from agent.loop import nodes
from agent.loop.state import Context, State, Stored

Wrap = Callable[[str, nodes.Node], Callable[..., Stored]]
"""Name and node → what a graph calls between what it holds."""


def route(state: State) -> Literal["decide", "apply", "evaluate", "conclude"]:
    """Say what comes next: the loop's only router, a pure function of the state."""
    if state.get("out_of_time") or state.get("ended") or (state["accepted"] and state["until"] == "first"):
        return "conclude"
    if state.get("candidate") is not None:
        return "evaluate"
    if state.get("proposal") is not None:
        return "apply"
    return "decide" if len(state["trials"]) < state["max_attempts"] else "conclude"


def after_detect(state: State) -> Literal["generate", "conclude"]:
    """Say whether there is anything to adapt to, a pure function of the state too."""
    return "conclude" if state.get("ended") else "generate"


def build_graph() -> "StateGraph[State, Context]":
    """Return the graph, not compiled."""
    graph = StateGraph(State, context_schema=Context)
    connect(graph, nodes.traced, START, END)
    return graph


def connect(graph: "StateGraph[StateT, ContextT, InputT, OutputT]", step: Wrap, before: str, after: str) -> None:
    """Add the nodes and all edges between them.

    Args:
        graph: takes them.
        step: makes of a node, by its name, what the graph calls.
        before: the node whose successor is the first one.
        after: the last one's successor.
    """
    for name, node in nodes.NODES.items():
        graph.add_node(name, step(name, node))

    graph.add_edge(before, "describe")
    graph.add_edge("describe", "detect")
    graph.add_conditional_edges("detect", after_detect, ["generate", "conclude"])
    graph.add_edge("generate", "align")
    graph.add_edge("align", "choose")
    graph.add_edge("choose", "decide")
    graph.add_conditional_edges("decide", route, ["apply", "decide", "conclude"])
    graph.add_conditional_edges("apply", route, ["evaluate", "decide", "conclude"])
    graph.add_conditional_edges("evaluate", route, ["decide", "conclude"])
    graph.add_edge("conclude", after)


def make_graph() -> CompiledStateGraph[State, Context, State, State]:
    """Return the compiled graph without a checkpointer, to be drawn."""
    return build_graph().compile()


def mermaid() -> str:
    """Return the graph as Mermaid text."""
    return str(make_graph().get_graph().draw_mermaid())

"""The graph for LangGraph's own server and its studio."""

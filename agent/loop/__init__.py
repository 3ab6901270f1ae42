"""The loop: its state, its nodes, and what they call."""

"""The paper's tables and figures that look at adapters and their gradients, and what making them costs."""

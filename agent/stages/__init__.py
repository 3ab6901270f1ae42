"""One stage alone: what the commands drift, generate and reference do once their arguments are understood."""

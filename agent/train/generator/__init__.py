"""Training of stages 1 and 2: every step writes one file into a run folder and is skipped where that is there."""

"""What a run costs: the plan before it, sizes that fit, and the clock during it."""

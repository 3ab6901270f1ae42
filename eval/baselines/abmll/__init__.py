"""ABMLL: a Gaussian over LoRA for all tasks, and one for each, held near it."""

"""The paper's tables, measured here: its method and its baselines under one set of rules, beside its own figures."""

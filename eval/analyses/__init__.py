"""The analyses behind ``python -m eval.tables``: each measures, states intervals and writes its own page."""

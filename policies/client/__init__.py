"""The guarded HTTP client of models that a server runs."""

"""A run in the tools that people have: its trace as OpenTelemetry's spans, its figures for TensorBoard."""

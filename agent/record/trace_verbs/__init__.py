"""What ``python -m agent.trace`` does with the records alone: shows runs, compares them, removes some."""

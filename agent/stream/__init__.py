"""A stream of prompts that is watched."""

"""SEAL's kind: a policy writes how LoRA is to be trained, and is reinforced by what that came to."""

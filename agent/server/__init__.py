"""A server that speaks OpenAI's API: the base model, what runs adopted, and adaptation while it serves."""

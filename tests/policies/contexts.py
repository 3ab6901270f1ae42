"""What policies are asked in their tests."""

from policies.base import PolicyContext

CONTEXT = PolicyContext(task_context="Sums.", families=("TTL", "Latent"))

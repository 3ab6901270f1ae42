"""The paper's own figures of adapters and gradients. They stand beside ours and are never merged with them.

Source: CAO-LLM Tables 3 and 4, of Qwen2.5-0.5B-Instruct.
"""

from cao.types import Record

SIZE = "0.5B"


class PublishedCosine(Record):
    """Cosines of gradients between tasks: mean, standard deviation, lowest and highest."""

    mean: float
    deviation: float
    low: float
    high: float


class PublishedSizes(Record):
    """An adapter: sparsity in per cent at a threshold that is not stated, and norms."""

    sparsity: float
    l1: float
    l2: float
    largest: float


COSINES = {
    "maml": PublishedCosine(mean=0.884, deviation=0.047, low=0.770, high=0.976),
    "cao": PublishedCosine(mean=0.749, deviation=0.116, low=0.476, high=0.940),
}
"""Table 3."""

SIZES = {
    "maml": PublishedSizes(sparsity=1.55, l1=2512.1, l2=0.575, largest=0.0017),
    "cao": PublishedSizes(sparsity=10.01, l1=866.1, l2=0.400, largest=0.0031),
}
"""Table 4."""

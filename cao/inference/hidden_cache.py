"""Hidden states kept between measurements: what reads the same texts under the same adapter needs no second forward.

A Latent strategy and a combination of predictions change nothing inside the transformer. What was read for the model
that they build on is kept, within a bound on memory, and only the head and δ are computed anew. A batch is kept and
found as a whole, so that what is reused equals what would be computed, bit for bit.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256

from torch import Tensor

from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Packed, Row, packed_states

MOST_BYTES = 2**28

Reader = Callable[[LanguageModel, Sequence[Row]], Tensor]
"""(model, B rows) → the last hidden states behind the final norm of all rows' tokens, end to end: (T, d)."""


def hidden_states(lm: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """Return the last hidden states behind the final norm of all rows' tokens, end to end: (T, d), the model's dtype.

    Args:
        lm: the model, with an adapter or without.
        rows: B rows.
    """
    return packed_states(lm, Packed.of(rows, lm.device))


class HiddenCache:
    """A memory of hidden states; the oldest go first.

    Attributes:
        reused: questions that were not read again, a question counted once for each adapter.
        nbytes: of what is kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Keep at most so many bytes."""
        self.reused = 0
        self.nbytes = 0
        self._most = most_bytes
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def reader(self, adapter: str | None) -> Reader:
        """Return a reader for the model with one adapter.

        Args:
            adapter: its hash, None for the plain model.
        """

        def read(lm: LanguageModel, rows: Sequence[Row]) -> Tensor:
            read_texts = [(row.tokens, row.prompt, [(span.start, span.end) for span in row.spans]) for row in rows]
            key = sha256(repr((lm.sha256, adapter, read_texts)).encode()).hexdigest()
            if key in self._kept:
                self._kept.move_to_end(key)
                self.reused += len(rows)
                return self._kept[key]
            states = hidden_states(lm, rows)
            self._keep(key, states)
            return states

        return read

    def _keep(self, key: str, states: Tensor) -> None:
        if states.nbytes > self._most:
            return
        self._kept[key] = states
        self.nbytes += states.nbytes
        while self.nbytes > self._most:
            self.nbytes -= self._kept.popitem(last=False)[1].nbytes

"""The prompt that a model read last, kept as far as the next one begins alike."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cao.model.language_model import LanguageModel

if TYPE_CHECKING:
    from transformers import Cache
    from transformers.modeling_outputs import BaseModelOutputWithPast


class PromptMemory:
    """The keys and values of the prompt that was read last: the same one again, or one that begins alike, costs less.

    A prompt is always read in two pieces, the beginning that the caller names and the rest, whether the first is known
    or not, so that what comes out does not depend on what was read before.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._ids: list[int] = []
        self._beginning = 0
        self._cache: Cache | None = None
        self._logits: Tensor | None = None

    def read(self, lm: LanguageModel, ids: list[int], beginning: int) -> tuple["Cache", Tensor]:
        """Return the cache with the prompt in it, and the next token's logits, (1, V).

        Args:
            lm: the model, with the same adapter at every call of this memory.
            ids: the prompt's tokens.
            beginning: how many of them are read first, by themselves; the last token is never among them.
        """
        beginning = max(0, min(beginning, len(ids) - 1))
        alike = self._beginning == beginning and self._ids[:beginning] == ids[:beginning]
        if not (alike and beginning and _croppable(self._cache)):
            self._cache, self._beginning, self._ids = None, beginning, []
            if beginning:
                self._cache = self._read(lm, ids[:beginning], None).past_key_values
        elif self._ids == ids and self._logits is not None:
            _crop(self._cache, len(ids))
            return self._cache, self._logits
        else:
            _crop(self._cache, beginning)
        cache, self._cache, self._logits = self._cache, None, None  # a reading that fails leaves nothing
        output = self._read(lm, ids[beginning:], cache)
        self._cache, self._ids = output.past_key_values, ids
        self._logits = lm.logits(output.last_hidden_state[:, -1]).float().cpu()
        return self._cache, self._logits

    @staticmethod
    def _read(lm: LanguageModel, ids: list[int], cache: "Cache | None") -> "BaseModelOutputWithPast":
        return lm.trunk(input_ids=torch.tensor([ids], device=lm.device), past_key_values=cache, use_cache=True)


def _croppable(cache: "Cache | None") -> bool:
    """Return whether a cache can forget its end: not where layers keep a window only, or a state."""
    layers: list[object] = getattr(cache, "layers", None) or []
    return bool(layers) and not any(getattr(it, "is_sliding", False) or hasattr(it, "conv_states") for it in layers)


def _crop(cache: "Cache", length: int) -> None:
    """Have a cache forget everything behind its first ``length`` positions."""
    if excess := int(cache.get_seq_length()) - length:
        cache.crop(-excess)

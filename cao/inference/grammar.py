"""The grammar that a text is decoded under; llguidance, which it needs, may not be installed."""

import json
from collections.abc import Mapping

import llguidance.hf
import llguidance.numpy
import numpy as np
import torch
from torch import Tensor

from cao.model.language_model import LanguageModel


class Grammar:
    """The tokens that may come next for a text to become JSON of a schema.

    llguidance bounds integers and lengths well but lets the digits of a decimal run on and knows no exclusive bounds,
    so what comes out is validated all the same.
    """

    def __init__(self, lm: LanguageModel, schema: Mapping[str, object]) -> None:
        """Compile a grammar.

        Args:
            lm: whose tokens.
            schema: a JSON schema.

        Raises:
            ValueError: the tokenizer is not a fast one.
        """
        self.vocabulary = int(lm.head.weight.shape[0])
        self._tokenizer = llguidance.hf.from_tokenizer(lm.tokenizer, n_vocab=self.vocabulary)
        # without this the model may pad with white space until its tokens are spent
        compact = {"whitespace_flexible": False}
        self._text = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=compact)

    def matchers(self, n: int) -> list[llguidance.LLMatcher]:
        """Return ``n`` fresh matchers, one a row."""
        return [llguidance.LLMatcher(self._tokenizer, self._text, log_level=0) for _ in range(n)]

    def allowed(self, matchers: list[llguidance.LLMatcher]) -> Tensor:
        """Return which tokens may come next, (n, V), bool."""
        bits = llguidance.numpy.allocate_token_bitmask(len(matchers), self.vocabulary)
        for row, matcher in enumerate(matchers):
            llguidance.numpy.fill_next_token_bitmask(matcher, bits, row)
        flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : self.vocabulary]
        return torch.from_numpy(flags.astype(bool))

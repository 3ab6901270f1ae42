"""The language model and the encoder: loaded, frozen, with and without adapters, computed fast."""

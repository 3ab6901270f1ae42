"""The language model and the encoder: loaded, frozen, dressed in adapters, computed fast."""

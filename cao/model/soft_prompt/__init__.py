"""Prompt tuning: the embeddings of virtual tokens that stand before every text, as weights, as a layer, on disk."""

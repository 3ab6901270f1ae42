"""The pages of the tables of adapters, and their pictures."""

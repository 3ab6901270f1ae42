"""How often the drift sense is right."""

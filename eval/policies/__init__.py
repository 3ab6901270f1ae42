"""What policies choose, and what it is worth."""

"""Two sets of answers to the same questions, whoever measured them, and what paired tests say about them."""

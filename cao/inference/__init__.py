"""What is asked of a language model: scores, texts, samples, the loss of answers."""

"""SeRL: questions that the model writes, answers that it votes on, and reinforcement of what the vote says."""

"""What a run leaves: its schema, its words, its report, and how it is shown."""

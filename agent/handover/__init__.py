"""What a finished run hands over: a folder that serves, and the proof that its adapter acts."""

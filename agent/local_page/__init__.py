"""The local page over all runs: a server for this machine alone, which reads and never writes."""

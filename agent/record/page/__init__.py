"""The report: what a run came to, on one page that needs nothing else."""

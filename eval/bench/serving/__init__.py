"""What serving under load costs, with the stream detector and without it, and a swap in the middle of it."""

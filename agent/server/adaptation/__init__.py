"""What a server does about drift: it watches, adapts beside its work, swaps what was accepted in, and takes it back."""

"""What the measured tables say of each claim of the paper."""

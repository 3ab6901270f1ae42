"""What things cost here, as ratios against what a user would take instead, one measurement a file."""

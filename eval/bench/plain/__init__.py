"""The plain implementations that ours are measured against."""

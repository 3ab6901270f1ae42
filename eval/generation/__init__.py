"""What generated and aligned adapters gain."""

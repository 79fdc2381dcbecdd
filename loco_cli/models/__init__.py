"""What an architecture is, and which ones are known by name."""
